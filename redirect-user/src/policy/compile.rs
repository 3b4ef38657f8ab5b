//! Configuration to map rows.

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

/// A policy as the maps hold it, without an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledPolicy {
    row: PolicyRow,
    /// TCP ports of both directions, each once, without the policy's id.
    pub ports: Vec<(PortKey, PortFlags)>,
    /// Owner groups that are listed, whichever kind of list it is.
    pub groups: Vec<u32>,
    /// Ranges of both families, each once, closed under containment.
    pub cidrs: Vec<(IpNet, CidrFlags)>,
}

impl CompiledPolicy {
    /// The pod's row under the id that the entries are stored with, as the one of this serial.
    pub const fn row(&self, policy: PolicyId, serial: Serial) -> PolicyRow {
        PolicyRow {
            policy,
            serial,
            ..self.row
        }
    }
}

/// Compiles a configuration for a pod at a place, whose ids it is written in.
pub fn compile(config: &RedirectConfig, place: &PodNetwork) -> Result<CompiledPolicy, NoSuchId> {
    let cidrs = cidrs(config, place);
    let outbound = flag_ports(&config.exclude_ports, &config.include_ports);
    let inbound = inbound_ports(&config.inbound);
    let (groups, only_groups) = match &config.owner_groups {
        OwnerGroups::Any => (&config.owner_groups_exclude, false),
        OwnerGroups::List(groups) => (groups, true),
    };
    let uids = translate(config.proxy_uids.as_slice(), |id| place.ids.uid(id))?;
    let gids = translate(config.proxy_gids.as_slice(), |id| place.ids.gid(id))?;
    let groups = translate(groups, |id| place.ids.gid(id))?;
    let has = |v4: bool| {
        cidrs
            .iter()
            .any(|(net, _)| matches!(net, IpNet::V4(_)) == v4)
    };
    let flags = switches(config)
        .or_if(!place.has_ipv6, RowFlags::NO_IPV6)
        .or_if(has(true), RowFlags::HAS_CIDRS4)
        .or_if(has(false), RowFlags::HAS_CIDRS6)
        .or_if(!outbound.is_empty(), RowFlags::HAS_PORTS)
        .or_if(!inbound.is_empty(), RowFlags::HAS_IN_PORTS)
        .or_if(!groups.is_empty(), RowFlags::HAS_GROUPS)
        .or_if(only_groups, RowFlags::ONLY_GROUPS);
    let row = PolicyRow {
        netns: place.netns,
        policy: PolicyId::NONE,
        serial: Serial::NONE,
        flags,
        out_port: BePort::new(config.out_port),
        in_port: BePort::new(config.in_port),
        tunnel_port: BePort::new(config.tunnel_port),
        reserved: [0; 3],
        proxy_uids: ProxyIds::to_row(&uids),
        proxy_gids: ProxyIds::to_row(&gids),
        source4: place.source4,
        source6: place.source6,
        loopback4: BeAddr::from(config.loopback4.network()).word4(),
        loopback4_mask: BeAddr::from(config.loopback4.netmask()).word4(),
        interfaces: place.exclusion.to_row(),
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

/// What the configuration switches on by itself.
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
        // What arrives is translated before any hook sees it, so there is nothing to compare.
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

/// Every range there is anything to say about.
fn cidrs(config: &RedirectConfig, place: &PodNetwork) -> Vec<(IpNet, CidrFlags)> {
    let included = match &config.include {
        Include::Any => &[],
        Include::Cidrs(nets) => nets.as_slice(),
    };
    let included = included.iter().map(|net| (*net, included_as(net)));
    let excluded = config.exclude.iter().map(|net| (*net, CidrFlags::EXCLUDED));
    let servers = config.dns.listed().iter();
    let servers = servers.map(|server| (IpNet::from(*server), CidrFlags::DNS_SERVER));
    let own = place.ranges.iter().map(|own| (own.net, local_as(own)));
    let routes = place.exclusion.routes.iter();
    let routes = routes.map(|&(net, by_excluded)| (net, routed_as(by_excluded)));
    inherit_flags(
        included
            .chain(excluded)
            .chain(servers)
            .chain(own)
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

const fn local_as(own: &LocalRange) -> CidrFlags {
    if own.from_passthrough {
        CidrFlags::LOCAL.or(CidrFlags::FROM_PASSTHROUGH)
    } else {
        CidrFlags::LOCAL
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

/// The inbound ports that there is anything to say about. Those excluded count only beside `*`.
fn inbound_ports(inbound: &Inbound) -> BTreeMap<u16, PortFlags> {
    match &inbound.include_ports {
        InboundPorts::Any => flag_ports(&inbound.exclude_ports, &[]),
        InboundPorts::List(included) => flag_ports(&[], included),
    }
}

fn keyed(
    ports: BTreeMap<u16, PortFlags>,
    key: fn(PolicyId, BePort) -> PortKey,
) -> impl Iterator<Item = (PortKey, PortFlags)> {
    ports
        .into_iter()
        .map(move |(port, flags)| (key(PolicyId::NONE, BePort::new(port)), flags))
}

fn flag_ports(excluded: &[PortRange], included: &[PortRange]) -> BTreeMap<u16, PortFlags> {
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
}
