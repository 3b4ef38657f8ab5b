//! A packet's walk through the chains, with the kernel's semantics.
//!
//! A condition holds, does not hold, or is not understood. A rule that might match and whose target
//! would matter ends the walk without a verdict, and is named. Every walk ends: chains are followed
//! to a depth and for a number of rules that no real text comes near.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    model::{Bits, Chain, ConnmarkOp, Match, Rule, Ruleset, Table, Target, Test},
    packet::{Packet, Via},
};

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes where it was meant to go.
    Direct,
    /// It is redirected to this port of the pod.
    Redirect(u16),
    /// It is given to a transparent listener at this port.
    Tproxy(u16),
    /// It is dropped or rejected.
    Drop,
    /// That depends on a rule that is not understood.
    Unknown,
}

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'r> {
    /// This rule.
    Rule(&'r Rule),
    /// The policy of a built-in chain, by table and chain.
    Policy(&'r str, &'r str),
    /// The end of all chains.
    End,
}

impl By<'_> {
    /// The line of the rule; 0 if no rule decided.
    pub const fn line(&self) -> usize {
        match self {
            Self::Rule(rule) => rule.line,
            Self::Policy(..) | Self::End => 0,
        }
    }

    /// The rule, or what stands for one.
    pub fn text(&self) -> String {
        match self {
            Self::Rule(rule) => rule.text.clone(),
            Self::Policy(table, chain) => format!("(policy of {chain} in table {table})"),
            Self::End => "(no rule: end of the chains)".to_owned(),
        }
    }
}

/// A verdict, and what gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'r> {
    /// The verdict.
    pub verdict: Verdict,
    /// What decided.
    pub by: By<'r>,
}

/// What becomes of a connection that a socket of the namespace makes: the `OUTPUT` chains, and
/// where it comes back over `lo`, those of `PREROUTING` but for nat, which acts once for each
/// connection.
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

/// What becomes of a connection that arrives from outside, as far as the `PREROUTING` chains
/// decide.
pub fn inbound<'r>(rules: &'r Ruleset, packet: &Packet) -> Answer<'r> {
    let mut walk = Walk::new(rules, packet);
    walk.is_input = true;
    walk.hook("PREROUTING", &["raw", "mangle", "nat"]);
    walk.answer()
}

/// More rules than any packet meets, so that chains that call each other in turns end.
const MOST_STEPS: usize = 1 << 20;
/// Deeper than chains call each other; the kernel takes no loops, but a text may hold one.
const MOST_DEPTH: usize = 64;

/// How a chain was left.
enum Left<'r> {
    /// At its end, or by `RETURN`.
    Return,
    /// By `ACCEPT`: no further rule of the table.
    Accept,
    /// For good.
    Done(Answer<'r>),
}

/// A mark; nobody knows it if a rule that is not understood may have set it.
type Mark = Option<u32>;

struct Walk<'r> {
    rules: &'r Ruleset,
    packet: Packet,
    /// Whether the packet's interface is that of its arrival.
    is_input: bool,
    mark: Mark,
    connmark: Mark,
    /// The rule that a direct connection was left alone by.
    spared: By<'r>,
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
            spared: By::End,
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
            by: self.spared,
        })
    }

    /// One hook: the same chain of several tables, in the order of their priorities.
    fn hook(&mut self, chain: &str, tables: &[&str]) {
        for name in tables {
            let table = self.rules.table(name);
            let found = table.and_then(|table| Some((table, table.chain(chain)?)));
            let Some((table, chain)) = found else {
                continue;
            };
            match self.chain(table, chain, 0) {
                Left::Accept => {}
                Left::Return if chain.accepts() => {}
                Left::Return => {
                    self.done = Some(Answer {
                        verdict: Verdict::Drop,
                        by: By::Policy(&table.name, &chain.name),
                    });
                }
                Left::Done(answer) => self.done = Some(answer),
            }
            if !self.is_open() {
                return;
            }
        }
    }

    fn chain(&mut self, table: &'r Table, chain: &'r Chain, depth: usize) -> Left<'r> {
        for rule in &chain.rules {
            self.steps = self.steps.saturating_add(1);
            if self.steps > MOST_STEPS || depth > MOST_DEPTH {
                return unknown(rule);
            }
            let matches = self.matches(rule);
            if matches == Some(false) {
                continue;
            }
            if let Some(left) = self.target(table, rule, matches.is_some(), depth) {
                return left;
            }
        }
        Left::Return
    }

    /// Does what a rule says that matches, or that might; `None` goes on with the next rule.
    fn target(
        &mut self,
        table: &'r Table,
        rule: &'r Rule,
        certain: bool,
        depth: usize,
    ) -> Option<Left<'r>> {
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
                self.spare(table, rule);
                return Some(Left::Return);
            }
            Target::Accept => {
                self.spare(table, rule);
                return Some(Left::Accept);
            }
            Target::Drop => return Some(done(Verdict::Drop, rule)),
            Target::Jump(name) | Target::Goto(name) => {
                let chain = table.chain(name)?;
                let left = self.chain(table, chain, depth.saturating_add(1));
                let is_goto = matches!(rule.target, Target::Goto(_));
                let goes_on = matches!(left, Left::Return) && !is_goto;
                return (!goes_on).then_some(left);
            }
            Target::Redirect(port) => {
                let port = port.unwrap_or(self.packet.destination_port);
                self.redirect(port, rule);
                return Some(Left::Accept);
            }
            Target::Tproxy(port, _) => return Some(done(Verdict::Tproxy(*port), rule)),
            Target::Unknown(_) => {}
        }
        Some(unknown(rule))
    }

    /// Only nat decides that a connection is left alone; the other tables do not ask.
    fn spare(&mut self, table: &Table, rule: &'r Rule) {
        if table.name == "nat" {
            self.spared = By::Rule(rule);
        }
    }

    fn redirect(&mut self, port: u16, rule: &'r Rule) {
        self.redirected = Some(Answer {
            verdict: Verdict::Redirect(port),
            by: By::Rule(rule),
        });
        self.packet.destination_port = port;
        if !self.is_input {
            self.packet.destination = match self.packet.destination {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
        }
    }

    /// As in `net/netfilter/xt_connmark.c`.
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

    /// Whether a rule matches; `None` if that is not known.
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
        let via = |interface: &super::Interface, is_input: bool| {
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
            // Nobody is no owner, whichever is asked for.
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

/// A mark with bits set; it is known if they are all of its bits.
fn set(mark: Mark, bits: Bits) -> Mark {
    let is_whole = bits.mask == u32::MAX;
    is_whole.then_some(0).or(mark).map(|mark| bits.set_in(mark))
}

const fn done(verdict: Verdict, rule: &Rule) -> Left<'_> {
    Left::Done(Answer {
        verdict,
        by: By::Rule(rule),
    })
}

const fn unknown(rule: &Rule) -> Left<'_> {
    done(Verdict::Unknown, rule)
}

#[cfg(test)]
mod tests;
