//! Where a pod is: what its row says besides the configuration.

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

/// Where a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNetwork {
    /// Its network namespace.
    pub(super) netns: u64,
    /// The source address that an IPv4 connection to the outside shows, or a zero address.
    pub(super) source4: BeAddr,
    /// The same for IPv6.
    pub(super) source6: BeAddr,
    /// Whether IPv6 is redirected at all.
    pub(super) has_ipv6: bool,
    /// Its any-IP ranges.
    pub(super) ranges: Vec<LocalRange>,
    /// Its excluded interfaces.
    pub(super) exclusion: Exclusion,
    /// Its ids.
    pub(super) ids: IdMaps,
}

/// Whether IPv6 is on, as `istio-iptables` finds it: the first of a namespace's addresses decides,
/// loopback and link-local ones apart; with `dual_stack` one of them is enough. `None` if there is
/// no other address.
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
    /// The place of a pod in a namespace. Without any address that decides, IPv6 is off.
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

    /// The place of a pod that is attached, by its row, its ranges and its ids.
    pub fn of_row(row: &PolicyRow, cidrs: &[(IpNet, CidrFlags)], ids: IdMaps) -> Self {
        let own = cidrs.iter().map(|(net, flags)| (*net, flags.own()));
        let ranges = own.clone().filter(|(_, own)| own.local());
        let ranges = ranges.map(|(net, own)| LocalRange {
            net,
            from_passthrough: own.is_from_passthrough(),
        });
        let routes = own.filter(|(_, own)| own.is_by_excluded() || own.is_by_other());
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

    /// The place after its namespace's addresses or routes have changed. Whether IPv6 is on stays:
    /// Istio asks that once.
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

    /// A row with the addresses and interfaces of this place.
    pub fn row(&self, row: &PolicyRow) -> PolicyRow {
        PolicyRow {
            interfaces: self.exclusion.to_row(),
            source4: self.source4,
            source6: self.source6,
            ..*row
        }
    }

    /// Its any-IP ranges.
    pub fn ranges(&self) -> &[LocalRange] {
        &self.ranges
    }

    /// What leaves by excluded interfaces: prefixes, the longest one of which tells.
    pub fn routes(&self) -> &[(IpNet, bool)] {
        &self.exclusion.routes
    }

    /// Its ids.
    pub const fn ids(&self) -> &IdMaps {
        &self.ids
    }
}

/// What each single address that a namespace knows is to it.
pub fn locals(netns: &NetnsSnapshot) -> impl Iterator<Item = (IpAddr, LocalFlags)> {
    let own = netns.own.iter().map(|own| {
        let source = if own.is_source {
            LocalFlags::SOURCE
        } else {
            LocalFlags::NONE
        };
        (own.addr, LocalFlags::LOCAL.or(source))
    });
    let broadcast = netns.broadcast.iter();
    own.chain(broadcast.map(|addr| (*addr, LocalFlags::BROADCAST)))
}

/// An id that does not exist in the pod's user namespace.
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
    /// What a uid of a pod is in the first user namespace.
    pub fn uid(&self, id: u32) -> Result<u32, NoSuchId> {
        outside("uid", &self.uids, id)
    }

    /// What a gid of a pod is in the first user namespace.
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
    fn the_first_address_that_counts_decides_about_ipv6() {
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
