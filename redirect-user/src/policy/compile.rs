//! The compilation of a configuration into map rows.

use std::collections::BTreeMap;

use ipnet::IpNet;
use redirect_common::{
    abi::{CidrFlags, PolicyId, PolicyRow, PortFlags, PortKey, RowFlags, Serial},
    net::{BeAddr, BePort},
};

use super::{
    covering::inherit_flags,
    exclusion::names_to_row,
    pod_network::{NoSuchId, PodNetwork},
};
use crate::{
    config::{
        Inbound, InboundMode, InboundPorts, Include, OwnerGroups, PortRange, ProxyIds,
        RedirectConfig,
    },
    sys::netns::LocalRange,
};

/// A policy in the form of the maps, without an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledPolicy {
    row: PolicyRow,
    /// TCP ports of both directions, each once.
    pub ports: Vec<(PortKey, PortFlags)>,
    /// The listed owner groups, each once, as ids of the initial user namespace. The row says whether
    /// they are redirected or excluded.
    pub groups: Vec<u32>,
    /// Ranges of both families, each once. The flags of a range include those of every range that
    /// contains it.
    pub cidrs: Vec<(IpNet, CidrFlags)>,
}

impl CompiledPolicy {
    /// The pod's row with the id under which the entries are stored, and with this serial.
    pub const fn row(&self, policy: PolicyId, serial: Serial) -> PolicyRow {
        PolicyRow {
            policy,
            serial,
            ..self.row
        }
    }
}

/// Compiles a configuration for a pod in a network. The configuration's ids are ids of the pod's
/// user namespace.
pub fn compile(config: &RedirectConfig, network: &PodNetwork) -> Result<CompiledPolicy, NoSuchId> {
    let cidrs = cidrs(config, network);
    let outbound = flag_ports(&config.exclude_ports, &config.include_ports);
    let inbound = inbound_ports(&config.inbound);
    let (groups, only_groups) = match &config.owner_groups {
        OwnerGroups::Any => (&config.owner_groups_exclude, false),
        OwnerGroups::List(groups) => (groups, true),
    };
    let uids = translate(config.proxy_uids.as_slice(), |id| network.ids.uid(id))?;
    let gids = translate(config.proxy_gids.as_slice(), |id| network.ids.gid(id))?;
    let mut groups = translate(groups, |id| network.ids.gid(id))?;
    groups.sort_unstable();
    groups.dedup();
    let has = |v4: bool| {
        cidrs
            .iter()
            .any(|(net, _)| matches!(net, IpNet::V4(_)) == v4)
    };
    let flags = switches(config)
        .or_if(!network.has_ipv6, RowFlags::NO_IPV6)
        .or_if(has(true), RowFlags::HAS_CIDRS4)
        .or_if(has(false), RowFlags::HAS_CIDRS6)
        .or_if(!outbound.is_empty(), RowFlags::HAS_PORTS)
        .or_if(!inbound.is_empty(), RowFlags::HAS_IN_PORTS)
        .or_if(!groups.is_empty(), RowFlags::HAS_GROUPS)
        .or_if(only_groups, RowFlags::ONLY_GROUPS);
    let row = PolicyRow {
        netns: network.netns,
        policy: PolicyId::NONE,
        serial: Serial::NONE,
        flags,
        out_port: BePort::new(config.out_port),
        in_port: BePort::new(config.in_port),
        tunnel_port: BePort::new(config.tunnel_port),
        reserved: [0; 3],
        proxy_uids: ProxyIds::to_row(&uids),
        proxy_gids: ProxyIds::to_row(&gids),
        source4: network.source4,
        source6: network.source6,
        loopback4: BeAddr::from(config.loopback4.network()).word4(),
        loopback4_mask: BeAddr::from(config.loopback4.netmask()).word4(),
        interfaces: network.exclusion.to_row(),
        interface_names: names_to_row(&config.exclude_interfaces),
    };
    Ok(CompiledPolicy {
        row,
        ports: keyed(outbound, PortKey::outbound_tcp)
            .chain(keyed(inbound, PortKey::inbound_tcp))
            .collect(),
        groups,
        cidrs,
    })
}

fn translate(
    ids: &[u32],
    outside: impl Fn(u32) -> Result<u32, NoSuchId>,
) -> Result<Vec<u32>, NoSuchId> {
    ids.iter().map(|id| outside(*id)).collect()
}

/// The flags that depend on the configuration alone.
fn switches(config: &RedirectConfig) -> RowFlags {
    let (dns, inbound) = (&config.dns, &config.inbound);
    RowFlags::NONE
        .or_if(
            matches!(config.include, Include::Any),
            RowFlags::ANY_INCLUDED,
        )
        .or_if(config.include.has_loopback(), RowFlags::LOOPBACK_INCLUDED)
        .or_if(config.dual_stack, RowFlags::DUAL_STACK)
        .or_if(dns.is_on(), RowFlags::REDIRECT_DNS)
        .or_if(dns.is_on() && dns.capture_all, RowFlags::CAPTURE_ALL_DNS)
        // Inbound packets are translated before any hook sees them, so shadow mode has nothing to
        // compare.
        .or_if(!inbound.is_none() && !config.shadow, RowFlags::INBOUND)
        .or_if(config.shadow, RowFlags::SHADOW)
        .or_if(
            !config.exclude_interfaces.is_empty(),
            RowFlags::HAS_INTERFACES,
        )
        .or_if(
            config
                .exclude_interfaces
                .iter()
                .any(|name| name.matches("lo")),
            RowFlags::LO_EXCLUDED,
        )
        .or_if(inbound.is_any(), RowFlags::ANY_IN_PORT)
        .or_if(inbound.mode == InboundMode::Tproxy, RowFlags::TPROXY)
}

/// Every range that has a flag, with the flags to store.
fn cidrs(config: &RedirectConfig, network: &PodNetwork) -> Vec<(IpNet, CidrFlags)> {
    let included = match &config.include {
        Include::Any => &[],
        Include::Cidrs(nets) => nets.as_slice(),
    };
    let included = included.iter().map(|net| (*net, included_as(net)));
    let excluded = config.exclude.iter().map(|net| (*net, CidrFlags::EXCLUDED));
    let servers = config.dns.listed().iter();
    let servers = servers.map(|server| (IpNet::from(*server), CidrFlags::DNS_SERVER));
    let local = network
        .ranges
        .iter()
        .map(|range| (range.net, local_as(range)));
    let routes = network.exclusion.routes.iter();
    let routes = routes.map(|&(net, by_excluded)| (net, routed_as(by_excluded)));
    inherit_flags(
        included
            .chain(excluded)
            .chain(servers)
            .chain(local)
            .chain(routes),
    )
}

const fn routed_as(by_excluded: bool) -> CidrFlags {
    if by_excluded {
        CidrFlags::BY_EXCLUDED
    } else {
        CidrFlags::BY_OTHER
    }
}

const fn local_as(range: &LocalRange) -> CidrFlags {
    if range.from_passthrough {
        CidrFlags::LOCAL.or(CidrFlags::FROM_PASSTHROUGH)
    } else {
        CidrFlags::LOCAL
    }
}

/// The flags of an included range. Whether the range "is loopback" depends on the address as it was
/// written, host bits included, which are dropped afterwards.
fn included_as(net: &IpNet) -> CidrFlags {
    let loopback = if net.addr().to_canonical().is_loopback() {
        CidrFlags::LOOPBACK
    } else {
        CidrFlags::NONE
    };
    CidrFlags::INCLUDED.or(loopback)
}

/// The inbound ports that have a flag. Excluded ports have an effect only if every port is
/// included.
fn inbound_ports(inbound: &Inbound) -> BTreeMap<u16, PortFlags> {
    match &inbound.include_ports {
        InboundPorts::Any => flag_ports(&inbound.exclude_ports, &[]),
        InboundPorts::List(included) => flag_ports(&[], included),
    }
}

fn keyed(
    ports: BTreeMap<u16, PortFlags>,
    key: fn(BePort) -> PortKey,
) -> impl Iterator<Item = (PortKey, PortFlags)> {
    ports
        .into_iter()
        .map(move |(port, flags)| (key(BePort::new(port)), flags))
}

fn flag_ports(excluded: &[PortRange], included: &[PortRange]) -> BTreeMap<u16, PortFlags> {
    let mut ports = BTreeMap::<u16, PortFlags>::new();
    for (ranges, flags) in [
        (excluded, PortFlags::EXCLUDED),
        (included, PortFlags::INCLUDED),
    ] {
        for port in ranges.iter().flat_map(|range| range.ports()) {
            let entry = ports.entry(port).or_default();
            *entry = entry.or(flags);
        }
    }
    ports
}
