//! The chain of outbound connections, read rule by rule.

use ipnet::IpNet;
use redirect_user::config::{OwnerGroups, PortRange};

use crate::{
    netfilter::{Interface, Match, Protocol, Rule, Target, Test},
    rules::Family,
};

/// What `ISTIO_OUTPUT` of one family says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outbound {
    pub(super) uids: Vec<u32>,
    pub(super) gids: Vec<u32>,
    pub(super) owner_groups: OwnerGroups,
    pub(super) owner_groups_exclude: Vec<u32>,
    /// The range that is loopback itself, once its rule was met.
    pub(super) loopback: Option<IpNet>,
    pub(super) exclude: Vec<IpNet>,
    pub(super) include: Vec<IpNet>,
    pub(super) exclude_ports: Vec<PortRange>,
    pub(super) include_ports: Vec<PortRange>,
    /// Whether queries of resolvers are sent through their own chain.
    pub(super) captures_dns: bool,
    /// Whether local connections of others than the proxy are spared, which they are unless a
    /// loopback address is included.
    pub(super) spares_local: bool,
    /// The group whose rules were begun and not yet ended.
    open_gid: Option<u32>,
}

impl Outbound {
    /// Reads the rules; those that `istio-iptables` does not write leave no trace.
    pub(super) fn read(rules: &[Rule], family: Family) -> Self {
        let mut outbound = Self::default();
        for rule in rules {
            outbound.rule(rule, family);
        }
        outbound
    }

    fn rule(&mut self, rule: &Rule, family: Family) {
        match &rule.target {
            Target::Return => self.spared(&rule.tests, family),
            Target::Jump(chain) => match chain.as_str() {
                "ISTIO_REDIRECT" => self.redirected(&rule.tests, family),
                "ISTIO_IN_REDIRECT" => self.self_calls(&rule.tests),
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

    fn spared(&mut self, tests: &[Test], family: Family) {
        if let Some(port) = tcp_port(tests) {
            self.exclude_ports.push(port);
            return;
        }
        match tests {
            // Before loopback's own rule it is an empty list of owner groups.
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
                _ => self.other_groups(tests),
            },
            _ if is_local_of_others(tests) => self.spares_local = true,
            _ => self.other_groups(tests),
        }
    }

    /// All groups but the listed ones.
    fn other_groups(&mut self, tests: &[Test]) {
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

    fn redirected(&mut self, tests: &[Test], family: Family) {
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

    /// The proxy's own connections to its pod.
    fn self_calls(&mut self, tests: &[Test]) {
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

/// The port of a rule that asks for TCP and at most one port or range.
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

/// `-o lo -m owner ! --uid-owner U`, with DNS also asking for the port.
fn is_local_of_others(tests: &[Test]) -> bool {
    let has = |wanted: fn(&Test) -> bool| tests.iter().any(wanted);
    has(|test| {
        !test.negated && matches!(&test.matches, Match::Out(Interface(name)) if name == "lo")
    }) && has(|test| test.negated && matches!(test.matches, Match::Uid(_) | Match::Gid(_)))
}
