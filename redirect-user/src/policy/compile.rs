//! Configuration to map rows.

use std::collections::BTreeMap;

use ipnet::IpNet;
use redirect_common::{
    abi::{CidrFlags, PolicyId, PolicyRow, PortFlags, RowFlags},
    net::{BeAddr, BePort},
};

use super::closure::close;
use crate::{
    config::{Include, OwnerGroups, PortRange, RedirectConfig},
    sys::netns::Netns,
};

/// A policy as the maps hold it, without an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledPolicy {
    row: PolicyRow,
    /// Outbound TCP ports, each once.
    pub ports: Vec<(BePort, PortFlags)>,
    /// Owner groups that are listed, whichever kind of list it is.
    pub groups: Vec<u32>,
    /// Ranges of both families, each once, closed under containment.
    pub cidrs: Vec<(IpNet, CidrFlags)>,
}

impl CompiledPolicy {
    /// The pod's row under the id that the entries are stored with.
    pub const fn row(&self, policy: PolicyId) -> PolicyRow {
        PolicyRow { policy, ..self.row }
    }
}

/// Where a pod is: what its row says besides the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    netns: u64,
    self4: BeAddr,
    self6: BeAddr,
}

impl From<&Netns> for Place {
    fn from(netns: &Netns) -> Self {
        Self {
            netns: netns.cookie,
            self4: netns.source4.map_or(BeAddr::ANY, BeAddr::from),
            self6: netns.source6.map_or(BeAddr::ANY, BeAddr::from),
        }
    }
}

impl From<&PolicyRow> for Place {
    fn from(row: &PolicyRow) -> Self {
        Self {
            netns: row.netns,
            self4: row.self4,
            self6: row.self6,
        }
    }
}

/// Compiles a configuration for a pod at a place.
pub fn compile(config: &RedirectConfig, place: Place) -> CompiledPolicy {
    let included = match &config.include {
        Include::Any => &[],
        Include::Cidrs(nets) => nets.as_slice(),
    };
    let cidrs = close(
        included
            .iter()
            .map(|net| (*net, included_as(net)))
            .chain(config.exclude.iter().map(|net| (*net, CidrFlags::EXCLUDED))),
    );
    let ports = flag_ports(&config.exclude_ports, &config.include_ports);
    let (groups, only_groups) = match &config.owner_groups {
        OwnerGroups::Any => (config.owner_groups_exclude.clone(), false),
        OwnerGroups::List(groups) => (groups.clone(), true),
    };
    let has = |v4: bool| {
        cidrs
            .iter()
            .any(|(net, _)| matches!(net, IpNet::V4(_)) == v4)
    };
    let flags = RowFlags::NONE
        .or_if(
            matches!(config.include, Include::Any),
            RowFlags::ANY_INCLUDED,
        )
        .or_if(config.include.has_loopback(), RowFlags::LOOPBACK_INCLUDED)
        .or_if(has(true), RowFlags::HAS_CIDRS4)
        .or_if(has(false), RowFlags::HAS_CIDRS6)
        .or_if(!ports.is_empty(), RowFlags::HAS_PORTS)
        .or_if(!groups.is_empty(), RowFlags::HAS_GROUPS)
        .or_if(only_groups, RowFlags::ONLY_GROUPS);
    let row = PolicyRow {
        netns: place.netns,
        policy: PolicyId::NONE,
        flags,
        out_port: BePort::new(config.out_port),
        in_port: BePort::new(config.in_port),
        tunnel_port: BePort::new(config.tunnel_port),
        reserved: 0,
        proxy_uids: config.proxy_uids.to_row(),
        proxy_gids: config.proxy_gids.to_row(),
        self4: place.self4,
        self6: place.self6,
    };
    CompiledPolicy {
        row,
        ports,
        groups,
        cidrs,
    }
}

/// Whether a range "is loopback" is asked of the address as it was written, host bits included,
/// which are otherwise dropped.
fn included_as(net: &IpNet) -> CidrFlags {
    let loopback = if net.addr().to_canonical().is_loopback() {
        CidrFlags::LOOPBACK
    } else {
        CidrFlags::NONE
    };
    CidrFlags::INCLUDED.or(loopback)
}

fn flag_ports(excluded: &[PortRange], included: &[PortRange]) -> Vec<(BePort, PortFlags)> {
    let mut ports = BTreeMap::<u16, PortFlags>::new();
    for (ranges, flags) in [
        (excluded, PortFlags::EXCLUDED),
        (included, PortFlags::INCLUDED),
    ] {
        for port in ranges.iter().flat_map(|range| range.ports()) {
            let place = ports.entry(port).or_default();
            *place = place.or(flags);
        }
    }
    ports
        .into_iter()
        .map(|(port, flags)| (BePort::new(port), flags))
        .collect()
}
