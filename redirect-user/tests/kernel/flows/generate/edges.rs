//! The edges of a policy: the addresses, ports and ids at which decisions change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use redirect_user::config::{InboundPorts, Include, OwnerGroups, PortRange, RedirectConfig};

/// The values at and beside the edges of a policy.
#[derive(Debug)]
pub(super) struct Edges {
    /// One flow in this many is to port 53.
    pub(super) dns: u32,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ports: Vec<u16>,
    pub(super) in_ports: Vec<u16>,
    pub(super) uids: Vec<u32>,
    pub(super) gids: Vec<u32>,
}

impl Edges {
    pub(super) fn of(config: &RedirectConfig) -> Self {
        let included = match &config.include {
            Include::Any => &[],
            Include::Cidrs(nets) => nets.as_slice(),
        };
        let loopback = IpNet::from(config.loopback4);
        let nets = included.iter().chain(&config.exclude).chain([&loopback]);
        let ranges = config.include_ports.iter().chain(&config.exclude_ports);
        let ports = [config.tunnel_port, config.out_port, config.in_port, 0, 81];
        let inbound = match &config.inbound.include_ports {
            InboundPorts::Any => &[],
            InboundPorts::List(ranges) => ranges.as_slice(),
        };
        let in_ranges = inbound.iter().chain(&config.inbound.exclude_ports);
        let groups = match &config.owner_groups {
            OwnerGroups::Any => &config.owner_groups_exclude,
            OwnerGroups::List(groups) => groups,
        };
        let resolvers = config.dns.servers.iter().copied();
        let resolvers = resolvers.flat_map(|addr| [addr, addr, addr, step(addr, true)]);
        Self {
            dns: if config.dns.redirect { 3 } else { 30 },
            addresses: nets
                .flat_map(edges)
                .chain(resolvers)
                .filter(|addr| !needs_device(*addr))
                .collect(),
            ports: beside(ranges.copied(), &ports),
            in_ports: beside(in_ranges.copied(), &ports),
            uids: around(config.proxy_uids.as_slice()),
            gids: around(&[config.proxy_gids.as_slice(), groups].concat()),
        }
    }
}

/// Lists the ports at the edges of ranges, other ports, and the neighbours of all.
fn beside(ranges: impl Iterator<Item = PortRange>, others: &[u16]) -> Vec<u16> {
    ranges
        .flat_map(|range| [range.first, range.last])
        .chain(others.iter().copied())
        .flat_map(|port| [port.saturating_sub(1), port, port.saturating_add(1)])
        .collect()
}

/// Lists ids, their neighbours, and ids that the policy does not name.
fn around(ids: &[u32]) -> Vec<u32> {
    // The largest number is no valid id.
    let neighbours = |id: &u32| [*id, *id, id.saturating_sub(1), (id + 1).min(u32::MAX - 1)];
    ids.iter()
        .flat_map(neighbours)
        .chain([0, 1000, 1000, 1000])
        .collect()
}

/// The first and the last address of a range with their outer neighbours, and the address that the range was written
/// with.
fn edges(net: &IpNet) -> [IpAddr; 5] {
    let (first, last) = (net.network(), net.broadcast());
    [
        step(first, false),
        first,
        last,
        step(last, true),
        net.addr(),
    ]
}

/// The next or previous address; at the end of the address space, the same address.
fn step(addr: IpAddr, up: bool) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => {
            let bits = u32::from(v4);
            let bits = if up {
                bits.saturating_add(1)
            } else {
                bits.saturating_sub(1)
            };
            Ipv4Addr::from(bits).into()
        }
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            let bits = if up {
                bits.saturating_add(1)
            } else {
                bits.saturating_sub(1)
            };
            Ipv6Addr::from(bits).into()
        }
    }
}

/// Whether an address has no meaning without a device.
const fn needs_device(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
