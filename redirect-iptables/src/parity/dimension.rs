//! The values that rules test, and the values beside them.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::{IpAdd as _, IpNet, IpSub as _};

use super::Site;
use crate::netfilter::{IdRange, Match, Rule};

/// The values of a connection that one rule, or several, test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dimension {
    pub(super) to: BTreeSet<IpAddr>,
    pub(super) from: BTreeSet<IpAddr>,
    pub(super) ports: BTreeSet<u16>,
    pub(super) uids: BTreeSet<u32>,
    pub(super) gids: BTreeSet<u32>,
    /// Names; some end in `+` until the existing interfaces are known.
    pub(super) interfaces: BTreeSet<String>,
}

impl Dimension {
    /// The values that a rule tests, with both sides of every edge.
    pub(super) fn of(rule: &Rule) -> Self {
        let mut dimension = Self::default();
        for test in &rule.tests {
            match &test.matches {
                Match::Destination(net) => dimension.to.extend(edges(net)),
                Match::Source(net) => dimension.from.extend(edges(net)),
                Match::DestinationPort(ports) => {
                    let around = ports.iter().flat_map(|range| {
                        [
                            range.first.checked_sub(1),
                            Some(range.first),
                            Some(range.last),
                            range.last.checked_add(1),
                        ]
                    });
                    dimension.ports.extend(around.flatten());
                }
                Match::Uid(ids) => dimension.uids.extend(around(*ids)),
                Match::Gid(ids) => dimension.gids.extend(around(*ids)),
                Match::In(name) | Match::Out(name) => {
                    if name.0 != "lo" {
                        dimension.interfaces.insert(name.0.clone());
                    }
                }
                Match::SourcePort(_)
                | Match::Protocol(_)
                | Match::State(_)
                | Match::Mark(_)
                | Match::Connmark(_)
                | Match::Unknown(_) => {}
            }
        }
        dimension
    }

    /// The edges of ranges of destinations.
    pub(super) fn of_ranges(nets: impl Iterator<Item = IpNet>) -> Self {
        Self {
            to: nets
                .flat_map(|net| edges(&net).collect::<Vec<_>>())
                .collect(),
            ..Self::default()
        }
    }

    /// Whether the only value is a destination.
    pub(super) fn is_range(&self) -> bool {
        !self.to.is_empty()
            && self.from.is_empty()
            && self.ports.is_empty()
            && self.uids.is_empty()
            && self.gids.is_empty()
    }

    /// The values that a connection can have: a socket is bound to a local address, or to a device that exists.
    pub(super) fn possible(mut self, site: &Site) -> Self {
        self.interfaces = site.interfaces_matching(&self.interfaces);
        self.to.retain(|addr| !site.is_refused(*addr));
        self.from
            .retain(|addr| site.is_local(*addr) && !site.is_refused(*addr));
        self
    }
}

/// The first and last address of a range, and the addresses beside them.
fn edges(net: &IpNet) -> impl Iterator<Item = IpAddr> {
    let (first, last) = (net.network(), net.broadcast());
    // The first and the last of all addresses have no neighbour on one side, and stay.
    let before = match first {
        IpAddr::V4(v4) => IpAddr::V4(v4.saturating_sub(1)),
        IpAddr::V6(v6) => IpAddr::V6(v6.saturating_sub(1)),
    };
    let after = match last {
        IpAddr::V4(v4) => IpAddr::V4(v4.saturating_add(1)),
        IpAddr::V6(v6) => IpAddr::V6(v6.saturating_add(1)),
    };
    [before, first, last, after].into_iter()
}

/// The ids at the edges of a range and those beside them. The highest number is not an id.
fn around(ids: IdRange) -> impl Iterator<Item = u32> {
    let IdRange { first, last } = ids;
    let all = [
        first.checked_sub(1),
        Some(first),
        Some(last),
        last.checked_add(1),
    ];
    all.into_iter().flatten().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edge_has_values_on_both_sides() {
        let addresses = |net: &str| {
            let net = net.parse().unwrap();
            let edges: BTreeSet<_> = edges(&net).collect();
            edges.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            addresses("10.1.0.0/16"),
            ["10.0.255.255", "10.1.0.0", "10.1.255.255", "10.2.0.0"]
        );
        assert_eq!(
            addresses("0.0.0.0/1"),
            ["0.0.0.0", "127.255.255.255", "128.0.0.0"]
        );
        assert_eq!(addresses("::1/128"), ["::", "::1", "::2"]);
        assert_eq!(addresses("::/0").len(), 2);
        let ids = |first, last| around(IdRange { first, last }).collect::<Vec<_>>();
        assert_eq!(ids(0, 5), [0, 5, 6]);
        assert_eq!(ids(7, u32::MAX - 1), [6, 7, u32::MAX - 1]);
    }
}
