//! The walk, rule by rule.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use redirect_user::config::Interface;

use super::answer::{Answer, DecidedBy, Verdict};
use crate::netfilter::{
    model::{Bits, Chain, ConnmarkOp, Match, Rule, Ruleset, Table, Target, Test},
    packet::{Packet, Via},
};

/// The fate of a connection that a socket of the namespace makes. The packet meets the `OUTPUT` chains, and if it comes
/// back over `lo`, those of `PREROUTING` except for nat, which acts once for each connection.
pub fn outbound<'r>(rules: &'r Ruleset, packet: &Packet) -> Answer<'r> {
    let mut walk = Walk::new(rules, packet);
    walk.hook("OUTPUT", &["raw", "mangle", "nat", "filter", "security"]);
    if walk.is_open() && (walk.packet.via == Via::Loopback || walk.redirected.is_some()) {
        walk.packet.via = Via::Loopback;
        walk.packet.owner = None;
        walk.is_input = true;
        walk.hook("PREROUTING", &["raw", "mangle"]);
    }
    walk.answer()
}

/// The fate of a connection that arrives from outside, as far as the `PREROUTING` chains decide.
pub fn inbound<'r>(rules: &'r Ruleset, packet: &Packet) -> Answer<'r> {
    let mut walk = Walk::new(rules, packet);
    walk.is_input = true;
    walk.hook("PREROUTING", &["raw", "mangle", "nat"]);
    walk.answer()
}

/// More rules than any packet meets. The limit ends chains that call each other.
const MOST_STEPS: usize = 1 << 20;
/// Deeper than real chains call each other. The kernel refuses loops, but a text may have one.
const MOST_DEPTH: usize = 64;

/// The way in which a packet leaves a chain.
enum ChainExit<'r> {
    /// At its end, or by `RETURN`.
    Return,
    /// By `ACCEPT`: no further rule of the table applies.
    Accept,
    /// With an answer: no further rule applies.
    Done(Answer<'r>),
}

/// A mark; unknown if a rule that is not understood may have set it.
type Mark = Option<u32>;

struct Walk<'r> {
    rules: &'r Ruleset,
    packet: Packet,
    /// Whether the packet's interface is the one that it arrived by.
    is_input: bool,
    mark: Mark,
    connmark: Mark,
    /// The rule that left a direct connection alone.
    left_alone_by: DecidedBy<'r>,
    redirected: Option<Answer<'r>>,
    done: Option<Answer<'r>>,
    steps: usize,
}

impl<'r> Walk<'r> {
    fn new(rules: &'r Ruleset, packet: &Packet) -> Self {
        Self {
            rules,
            packet: packet.clone(),
            is_input: false,
            mark: Some(0),
            connmark: Some(0),
            left_alone_by: DecidedBy::End,
            redirected: None,
            done: None,
            steps: 0,
        }
    }

    const fn is_open(&self) -> bool {
        self.done.is_none()
    }

    fn answer(self) -> Answer<'r> {
        self.done.or(self.redirected).unwrap_or(Answer {
            verdict: Verdict::Direct,
            decided_by: self.left_alone_by,
        })
    }

    /// Walks one hook: the same chain of several tables, in the order of their priorities.
    fn hook(&mut self, chain: &str, tables: &[&str]) {
        for name in tables {
            let table = self.rules.table(name);
            let found = table.and_then(|table| Some((table, table.chain(chain)?)));
            let Some((table, chain)) = found else {
                continue;
            };
            match self.chain(table, chain, 0) {
                ChainExit::Accept => {}
                ChainExit::Return if chain.accepts() => {}
                ChainExit::Return => {
                    self.done = Some(Answer {
                        verdict: Verdict::Drop,
                        decided_by: DecidedBy::Policy(&table.name, &chain.name),
                    });
                }
                ChainExit::Done(answer) => self.done = Some(answer),
            }
            if !self.is_open() {
                return;
            }
        }
    }

    fn chain(&mut self, table: &'r Table, chain: &'r Chain, depth: usize) -> ChainExit<'r> {
        for rule in &chain.rules {
            self.steps = self.steps.saturating_add(1);
            if self.steps > MOST_STEPS || depth > MOST_DEPTH {
                return unknown(rule);
            }
            let matches = self.matches(rule);
            if matches == Some(false) {
                continue;
            }
            if let Some(exit) = self.target(table, rule, matches.is_some(), depth) {
                return exit;
            }
        }
        ChainExit::Return
    }

    /// Applies the target of a rule that matches, or that might match if not `certain`. `None` goes on with the next
    /// rule.
    fn target(
        &mut self,
        table: &'r Table,
        rule: &'r Rule,
        certain: bool,
        depth: usize,
    ) -> Option<ChainExit<'r>> {
        match &rule.target {
            Target::Aside(_) => return None,
            Target::Mark(bits) => {
                self.mark = set(self.mark, *bits).filter(|_| certain);
                return None;
            }
            Target::Connmark(operation) => {
                self.connmark_target(*operation, certain);
                return None;
            }
            _ if !certain => {}
            Target::Return => {
                self.leave_alone(table, rule);
                return Some(ChainExit::Return);
            }
            Target::Accept => {
                self.leave_alone(table, rule);
                return Some(ChainExit::Accept);
            }
            Target::Drop => return Some(done(Verdict::Drop, rule)),
            Target::Jump(name) | Target::Goto(name) => {
                let chain = table.chain(name)?;
                let exit = self.chain(table, chain, depth.saturating_add(1));
                let is_goto = matches!(rule.target, Target::Goto(_));
                let goes_on = matches!(exit, ChainExit::Return) && !is_goto;
                return (!goes_on).then_some(exit);
            }
            Target::Redirect(port) => {
                let port = port.unwrap_or(self.packet.destination_port);
                self.redirect(port, rule);
                return Some(ChainExit::Accept);
            }
            Target::Tproxy(port, _) => return Some(done(Verdict::Tproxy(*port), rule)),
            Target::Unknown(_) => {}
        }
        Some(unknown(rule))
    }

    /// Remembers the rule that leaves a connection alone. Only table nat decides that.
    fn leave_alone(&mut self, table: &Table, rule: &'r Rule) {
        if table.name == "nat" {
            self.left_alone_by = DecidedBy::Rule(rule);
        }
    }

    fn redirect(&mut self, port: u16, rule: &'r Rule) {
        self.redirected = Some(Answer {
            verdict: Verdict::Redirect(port),
            decided_by: DecidedBy::Rule(rule),
        });
        self.packet.destination_port = port;
        if !self.is_input {
            self.packet.destination = match self.packet.destination {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
        }
    }

    /// Applies `CONNMARK`, as in `net/netfilter/xt_connmark.c`.
    fn connmark_target(&mut self, operation: ConnmarkOp, certain: bool) {
        let marks = self.mark.zip(self.connmark);
        match operation {
            ConnmarkOp::Set(bits) => self.connmark = set(self.connmark, bits),
            ConnmarkOp::Save { packet, connection } => {
                self.connmark = marks.map(|(mark, saved)| (saved & !connection) ^ (mark & packet));
            }
            ConnmarkOp::Restore { packet, connection } => {
                self.mark = marks
                    .map(|(mark, saved)| (mark & !packet) ^ (saved & connection))
                    .filter(|_| certain);
                return;
            }
        }
        self.connmark = self.connmark.filter(|_| certain);
    }

    /// Whether a rule matches; `None` if unknown.
    fn matches(&self, rule: &Rule) -> Option<bool> {
        let mut certain = true;
        for test in &rule.tests {
            match self.holds(test) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => certain = false,
            }
        }
        certain.then_some(true)
    }

    fn holds(&self, test: &Test) -> Option<bool> {
        let packet = &self.packet;
        let owner = packet.owner;
        let via = |interface: &Interface, is_input: bool| {
            let name = packet.via.name().filter(|_| self.is_input == is_input);
            name.is_some_and(|name| interface.matches(name))
        };
        let holds = match &test.matches {
            Match::Protocol(protocol) => packet.protocol == *protocol,
            Match::Source(net) => net.contains(&packet.source),
            Match::Destination(net) => net.contains(&packet.destination),
            Match::In(interface) => via(interface, true),
            Match::Out(interface) => via(interface, false),
            Match::SourcePort(ports) => {
                let port = packet.source_port?;
                ports.iter().any(|range| range.contains(port))
            }
            Match::DestinationPort(ports) => ports
                .iter()
                .any(|range| range.contains(packet.destination_port)),
            // A packet without an owner matches no owner.
            Match::Uid(ids) => owner.is_some_and(|owner| ids.contains(owner.uid)),
            Match::Gid(ids) => owner.is_some_and(|owner| ids.contains(owner.gid)),
            Match::State(states) => states.iter().any(|state| state == "NEW"),
            Match::Mark(bits) => bits.matches(self.mark?),
            Match::Connmark(bits) => bits.matches(self.connmark?),
            Match::Unknown(_) => return None,
        };
        Some(holds != test.negated)
    }
}

/// A mark with bits set. An unknown mark becomes known if all of its bits are set.
fn set(mark: Mark, bits: Bits) -> Mark {
    let is_whole = bits.mask == u32::MAX;
    is_whole.then_some(0).or(mark).map(|mark| bits.set_in(mark))
}

const fn done(verdict: Verdict, rule: &Rule) -> ChainExit<'_> {
    ChainExit::Done(Answer {
        verdict,
        decided_by: DecidedBy::Rule(rule),
    })
}

const fn unknown(rule: &Rule) -> ChainExit<'_> {
    done(Verdict::Unknown, rule)
}
