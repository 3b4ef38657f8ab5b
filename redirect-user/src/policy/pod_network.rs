//! The network of a pod: the part of its row that does not come from the configuration.

use std::net::IpAddr;

use ipnet::IpNet;
use redirect_common::{
    abi::{CidrFlags, LocalFlags, PolicyRow},
    net::BeAddr,
};
use thiserror::Error;

use super::{Exclusion, Undecidable};
use crate::{
    config::Interface,
    sys::{
        netns::{LocalRange, NetnsSnapshot},
        userns::{IdMap, IdMaps},
    },
};

/// The network of a pod: namespace, addresses, ranges, excluded interfaces and ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNetwork {
    /// The cookie of the pod's network namespace.
    pub(super) netns: u64,
    /// The source address of IPv4 connections to other hosts, or a zero address.
    pub(super) source4: BeAddr,
    /// The same for IPv6.
    pub(super) source6: BeAddr,
    /// Whether IPv6 is redirected at all.
    pub(super) has_ipv6: bool,
    /// The any-IP ranges of the pod.
    pub(super) ranges: Vec<LocalRange>,
    /// The excluded interfaces of the pod.
    pub(super) exclusion: Exclusion,
    /// The id maps of the pod's user namespace.
    pub(super) ids: IdMaps,
}

/// Whether IPv6 is on, as `istio-iptables` determines it. The first address of the namespace
/// decides, not counting loopback and link-local addresses; with `dual_stack` one IPv6 address is
/// enough. `None` if there is no other address.
pub fn has_ipv6(addresses: &[IpAddr], dual_stack: bool) -> Option<bool> {
    let mut counting = addresses
        .iter()
        .map(IpAddr::to_canonical)
        .filter(|addr| match addr {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        });
    let first = counting.next()?.is_ipv6();
    Some(first || dual_stack && counting.any(|addr| addr.is_ipv6()))
}

impl PodNetwork {
    /// Creates the network of a pod in a namespace. IPv6 is off if no address decides.
    pub fn new(
        netns: &NetnsSnapshot,
        dual_stack: bool,
        excluded: &[Interface],
    ) -> Result<Self, Undecidable> {
        Ok(Self {
            netns: netns.cookie,
            source4: netns.source4.map_or(BeAddr::ANY, BeAddr::from),
            source6: netns.source6.map_or(BeAddr::ANY, BeAddr::from),
            has_ipv6: has_ipv6(&netns.addresses, dual_stack).unwrap_or(false),
            ranges: netns.ranges.clone(),
            exclusion: Exclusion::new(excluded, &netns.routing)?,
            ids: netns.ids.clone(),
        })
    }

    /// Creates the network of an attached pod from its row, its ranges and its ids.
    pub fn of_row(row: &PolicyRow, cidrs: &[(IpNet, CidrFlags)], ids: IdMaps) -> Self {
        let written = cidrs.iter().map(|(net, flags)| (*net, flags.own()));
        let ranges = written.clone().filter(|(_, own)| own.local());
        let ranges = ranges.map(|(net, own)| LocalRange {
            net,
            from_passthrough: own.is_from_passthrough(),
        });
        let routes = written.filter(|(_, own)| own.is_by_excluded() || own.is_by_other());
        let mut routes: Vec<_> = routes
            .map(|(net, own)| (net, own.is_by_excluded()))
            .collect();
        routes.sort_unstable();
        let indexes = row
            .interfaces
            .into_iter()
            .filter(|index| *index != PolicyRow::NO_INTERFACE);
        Self {
            netns: row.netns,
            source4: row.source4,
            source6: row.source6,
            has_ipv6: !row.flags.no_ipv6(),
            ranges: ranges.collect(),
            exclusion: Exclusion {
                indexes: indexes.collect(),
                routes,
            },
            ids,
        }
    }

    /// The network after the addresses or routes of the namespace have changed. Whether IPv6 is on
    /// stays the same: Istio determines it once.
    pub fn refreshed(
        &self,
        netns: &NetnsSnapshot,
        excluded: &[Interface],
    ) -> Result<Self, Undecidable> {
        Ok(Self {
            has_ipv6: self.has_ipv6,
            ids: self.ids.clone(),
            ..Self::new(netns, false, excluded)?
        })
    }

    /// The row with the addresses and interfaces of this network.
    pub fn row(&self, row: &PolicyRow) -> PolicyRow {
        PolicyRow {
            interfaces: self.exclusion.to_row(),
            source4: self.source4,
            source6: self.source6,
            ..*row
        }
    }

    /// The any-IP ranges of the pod.
    pub fn ranges(&self) -> &[LocalRange] {
        &self.ranges
    }

    /// Prefixes, each with whether connections to it leave by an excluded interface. The longest
    /// prefix that contains a destination decides.
    pub fn routes(&self) -> &[(IpNet, bool)] {
        &self.exclusion.routes
    }

    /// The id maps of the pod's user namespace.
    pub const fn ids(&self) -> &IdMaps {
        &self.ids
    }
}

/// The flags of every single address that a namespace knows.
pub fn locals(netns: &NetnsSnapshot) -> impl Iterator<Item = (IpAddr, LocalFlags)> {
    let local = netns.locals.iter().map(|local| {
        let source = if local.is_source {
            LocalFlags::SOURCE
        } else {
            LocalFlags::NONE
        };
        (local.addr, LocalFlags::LOCAL.or(source))
    });
    let broadcast = netns.broadcast.iter();
    local.chain(broadcast.map(|addr| (*addr, LocalFlags::BROADCAST)))
}

/// The error for an id that does not exist in the pod's user namespace.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("use {kind} {id}: the pod's user namespace has no such id, only these: {existing}")]
pub struct NoSuchId {
    /// `uid` or `gid`.
    pub kind: &'static str,
    /// The id.
    pub id: u32,
    /// The ids that exist.
    pub existing: IdMap,
}

impl IdMaps {
    /// Translates a uid of the pod into the initial user namespace.
    pub fn uid(&self, id: u32) -> Result<u32, NoSuchId> {
        outside("uid", &self.uids, id)
    }

    /// Translates a gid of the pod into the initial user namespace.
    pub fn gid(&self, id: u32) -> Result<u32, NoSuchId> {
        outside("gid", &self.gids, id)
    }
}

fn outside(kind: &'static str, map: &IdMap, id: u32) -> Result<u32, NoSuchId> {
    map.outside(id).ok_or_else(|| NoSuchId {
        kind,
        id,
        existing: map.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_relevant_address_decides_about_ipv6() {
        let rows: [(&[&str], _, _); 9] = [
            (&[], None, None),
            (&["127.0.0.1", "::1", "fe80::1", "169.254.1.1"], None, None),
            (&["10.0.0.1"], Some(false), Some(false)),
            (
                &["127.0.0.1", "10.0.0.1", "::1", "fd00::1"],
                Some(false),
                Some(true),
            ),
            (
                &["169.254.1.1", "fe80::1", "fd00::1"],
                Some(true),
                Some(true),
            ),
            (&["fd00::1", "10.0.0.1"], Some(true), Some(true)),
            (
                &["10.0.0.1", "10.0.0.2", "fe80::1"],
                Some(false),
                Some(false),
            ),
            (&["::ffff:10.0.0.1"], Some(false), Some(false)),
            // Not a loopback address, although it is on `lo`.
            (&["::6"], Some(true), Some(true)),
        ];
        for (texts, plain, dual_stack) in rows {
            let addresses: Vec<IpAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(has_ipv6(&addresses, false), plain, "{texts:?}");
            assert_eq!(has_ipv6(&addresses, true), dual_stack, "{texts:?}");
        }
    }
}
