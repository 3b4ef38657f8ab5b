//! The chain of outbound connections, read rule by rule.

use ipnet::IpNet;
use redirect_user::config::{OwnerGroups, PortRange};

use crate::{
    netfilter::{Interface, Match, Protocol, Rule, Target, Test},
    rules::Family,
};

/// The options that the chain `ISTIO_OUTPUT` of one family was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outbound {
    pub(super) uids: Vec<u32>,
    pub(super) gids: Vec<u32>,
    pub(super) owner_groups: OwnerGroups,
    pub(super) owner_groups_exclude: Vec<u32>,
    /// The range that counts as loopback; none before its rule.
    pub(super) loopback: Option<IpNet>,
    pub(super) exclude: Vec<IpNet>,
    pub(super) include: Vec<IpNet>,
    pub(super) exclude_ports: Vec<PortRange>,
    pub(super) include_ports: Vec<PortRange>,
    /// Whether DNS queries are sent through a chain of their own.
    pub(super) captures_dns: bool,
    /// Whether local connections of other users than the proxy's are left alone. They are, unless a loopback address is
    /// included.
    pub(super) leaves_local_alone: bool,
    /// The proxy's group whose first rule has been read, and whose last rule has not.
    open_gid: Option<u32>,
}

impl Outbound {
    /// Reads the rules, and ignores those that `istio-iptables` does not write.
    pub(super) fn read(rules: &[Rule], family: Family) -> Self {
        let mut outbound = Self::default();
        for rule in rules {
            outbound.read_rule(rule, family);
        }
        outbound
    }

    fn read_rule(&mut self, rule: &Rule, family: Family) {
        match &rule.target {
            Target::Return => self.read_return(&rule.tests, family),
            Target::Jump(chain) => match chain.as_str() {
                "ISTIO_REDIRECT" => self.read_redirect(&rule.tests, family),
                "ISTIO_IN_REDIRECT" => self.read_self_calls(&rule.tests),
                "ISTIO_OUTPUT_DNS" => self.captures_dns = true,
                _ => {}
            },
            Target::Accept
            | Target::Drop
            | Target::Goto(_)
            | Target::Redirect(_)
            | Target::Tproxy(..)
            | Target::Mark(_)
            | Target::Connmark(_)
            | Target::Aside(_)
            | Target::Unknown(_) => {}
        }
    }

    fn read_return(&mut self, tests: &[Test], family: Family) {
        if let Some(port) = tcp_port(tests) {
            self.exclude_ports.push(port);
            return;
        }
        match tests {
            // Before the rule of loopback, a rule without tests is an empty list of owner groups.
            [] if self.loopback.is_none() => self.owner_groups = OwnerGroups::List(Vec::new()),
            [] => self.exclude.push(family.every()),
            [test] => match (&test.matches, test.negated) {
                (Match::Destination(net), false) => match self.loopback {
                    None => self.loopback = Some(*net),
                    Some(_) => self.exclude.push(*net),
                },
                (Match::Gid(ids), false) => {
                    if let Some(gid) = ids.single()
                        && self.open_gid.take() != Some(gid)
                    {
                        self.owner_groups_exclude.push(gid);
                    }
                }
                _ => self.read_owner_groups(tests),
            },
            _ if is_local_of_others(tests) => self.leaves_local_alone = true,
            _ => self.read_owner_groups(tests),
        }
    }

    /// Reads the rule that leaves all groups alone but the listed ones.
    fn read_owner_groups(&mut self, tests: &[Test]) {
        let gids: Option<Vec<_>> = tests
            .iter()
            .map(|test| {
                if let Match::Gid(ids) = test.matches {
                    ids.single().filter(|_| test.negated)
                } else {
                    None
                }
            })
            .collect();
        if let Some(gids) = gids {
            self.owner_groups = OwnerGroups::List(gids);
        }
    }

    fn read_redirect(&mut self, tests: &[Test], family: Family) {
        match tests {
            [] => self.include.push(family.every()),
            [
                Test {
                    negated: false,
                    matches: Match::Destination(net),
                },
            ] => self.include.push(*net),
            _ => self.include_ports.extend(tcp_port(tests)),
        }
    }

    /// Reads a rule for connections of the proxy to its own pod.
    fn read_self_calls(&mut self, tests: &[Test]) {
        for test in tests {
            match (&test.matches, test.negated) {
                (Match::Uid(ids), false) => self.uids.extend(ids.single()),
                (Match::Gid(ids), false) => {
                    self.open_gid = ids.single();
                    self.gids.extend(self.open_gid);
                }
                _ => {}
            }
        }
    }
}

const EVERY_PORT: PortRange = PortRange {
    first: 0,
    last: u16::MAX,
};

/// The port of a rule that tests for TCP and at most one port or range.
pub(super) fn tcp_port(tests: &[Test]) -> Option<PortRange> {
    let (mut tcp, mut port) = (false, None);
    for test in tests {
        match (&test.matches, test.negated) {
            (Match::Protocol(Protocol::Tcp), false) => tcp = true,
            (Match::DestinationPort(ports), false) => {
                let [one] = ports.as_slice() else {
                    return None;
                };
                port = Some(*one);
            }
            _ => return None,
        }
    }
    tcp.then_some(port.unwrap_or(EVERY_PORT))
}

/// `-o lo -m owner ! --uid-owner U`, with DNS capture also a test of the port.
fn is_local_of_others(tests: &[Test]) -> bool {
    let has = |wanted: fn(&Test) -> bool| tests.iter().any(wanted);
    has(|test| {
        !test.negated && matches!(&test.matches, Match::Out(Interface(name)) if name == "lo")
    }) && has(|test| test.negated && matches!(test.matches, Match::Uid(_) | Match::Gid(_)))
}
