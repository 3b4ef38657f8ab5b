//! The reverse of compilation: `show`, `cidr` and `update` read the configuration of a live pod
//! from its map rows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use redirect_common::{
    abi::{CidrFlags, PolicyId, PolicyRow, PortFlags, PortKey, Serial},
    net::BeAddr,
};

use super::{
    compile::compile,
    exclusion::names_of_row,
    pod_network::{NoSuchId, PodNetwork},
};
use crate::{
    config::{
        DEFAULT_LOOPBACK4, Dns, Inbound, InboundMode, InboundPorts, Include, Interface,
        OwnerGroups, PortRange, ProxyIds, RedirectConfig,
    },
    sys::userns::{IdMap, IdMaps},
};

/// The configuration that compiles to these rows, in canonical form: ranges without host bits and
/// in address order, owner groups sorted and without duplicates, and ids of the pod's user
/// namespace.
pub fn decompile(
    row: &PolicyRow,
    cidrs: &[(IpNet, CidrFlags)],
    ports: &[(PortKey, PortFlags)],
    groups: &[u32],
    ids: &IdMaps,
) -> RedirectConfig {
    let written = |is| written(cidrs, is);
    let in_list = |direction, is| in_list(ports, direction, is);
    let include = if row.flags.any_included() {
        Include::Any
    } else {
        Include::Cidrs(written(CidrFlags::included))
    };
    let mut groups: Vec<_> = groups.iter().map(|gid| inside(&ids.gids, *gid)).collect();
    groups.sort_unstable();
    let (owner_groups, owner_groups_exclude) = if row.flags.only_groups() {
        (OwnerGroups::List(groups), Vec::new())
    } else {
        (OwnerGroups::Any, groups)
    };
    RedirectConfig {
        out_port: row.out_port.get(),
        in_port: row.in_port.get(),
        tunnel_port: row.tunnel_port.get(),
        proxy_uids: ProxyIds::of_row(row.proxy_uids, |uid| inside(&ids.uids, uid)),
        proxy_gids: ProxyIds::of_row(row.proxy_gids, |gid| inside(&ids.gids, gid)),
        owner_groups,
        owner_groups_exclude,
        include,
        exclude: written(CidrFlags::excluded),
        include_ports: in_list(PortKey::OUTBOUND, PortFlags::included),
        exclude_ports: in_list(PortKey::OUTBOUND, PortFlags::excluded),
        exclude_interfaces: excluded_interfaces(row),
        loopback4: loopback4(row),
        dns: Dns {
            redirect: row.flags.redirect_dns(),
            capture_all: row.flags.capture_all_dns(),
            servers: written(CidrFlags::dns_server)
                .iter()
                .map(IpNet::addr)
                .collect(),
        },
        dual_stack: row.flags.dual_stack(),
        inbound: Inbound {
            mode: if row.flags.tproxy() {
                InboundMode::Tproxy
            } else {
                InboundMode::Redirect
            },
            include_ports: if row.flags.any_in_port() {
                InboundPorts::Any
            } else {
                InboundPorts::List(in_list(PortKey::INBOUND, PortFlags::included))
            },
            exclude_ports: in_list(PortKey::INBOUND, PortFlags::excluded),
        },
        shadow: row.flags.shadow(),
    }
}

/// A configuration in the canonical form in which it is read from the maps. Two configurations with
/// the same canonical form redirect the same connections.
pub fn canonical(config: &RedirectConfig) -> Result<RedirectConfig, NoSuchId> {
    // The pod's network has no influence on the configuration that is read back.
    let network = PodNetwork::of_row(&PolicyRow::default(), &[], IdMaps::default());
    let compiled = compile(config, &network)?;
    Ok(decompile(
        &compiled.row(PolicyId::NONE, Serial::NONE),
        &compiled.cidrs,
        &compiled.ports,
        &compiled.groups,
        network.ids(),
    ))
}

/// The ranges whose own flags `is` accepts, as they were written.
fn written(cidrs: &[(IpNet, CidrFlags)], is: fn(CidrFlags) -> bool) -> Vec<IpNet> {
    let mut nets: Vec<_> = cidrs
        .iter()
        .filter(|(_, flags)| is(flags.own()))
        .map(as_written)
        .collect();
    nets.sort_unstable();
    nets
}

/// The ports of one direction whose flags `is` accepts.
fn in_list(
    ports: &[(PortKey, PortFlags)],
    direction: u8,
    is: fn(PortFlags) -> bool,
) -> Vec<PortRange> {
    let mut numbers: Vec<_> = ports
        .iter()
        .filter(|(key, flags)| key.direction == direction && is(*flags))
        .map(|(key, _)| key.port.get())
        .collect();
    numbers.sort_unstable();
    ranges(&numbers)
}

/// The interfaces that a pod's rules leave alone.
pub fn excluded_interfaces(row: &PolicyRow) -> Vec<Interface> {
    names_of_row(&row.interface_names)
}

/// The IPv4 range that a pod's rules call loopback.
pub fn loopback4(row: &PolicyRow) -> Ipv4Net {
    let addr = IpAddr::from(BeAddr::from_network4(row.loopback4));
    let mask = IpAddr::from(BeAddr::from_network4(row.loopback4_mask));
    let net = IpNet::with_netmask(addr, mask);
    if let Ok(IpNet::V4(net)) = net {
        net
    } else {
        DEFAULT_LOOPBACK4
    }
}

/// The id in the pod's user namespace. Every id in a row was translated from one.
fn inside(map: &IdMap, id: u32) -> u32 {
    map.inside(id).unwrap_or(id)
}

/// The range with the loopback address as its host bits if it was written with a loopback address.
fn as_written((net, flags): &(IpNet, CidrFlags)) -> IpNet {
    if !flags.own().loopback() || net.addr().to_canonical().is_loopback() {
        return *net;
    }
    let loopback = match net {
        IpNet::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpNet::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    IpNet::new(loopback, net.prefix_len()).unwrap_or(*net)
}

/// Sorted ports, joined to ranges.
fn ranges(numbers: &[u16]) -> Vec<PortRange> {
    let mut ranges = Vec::<PortRange>::new();
    for &port in numbers {
        match ranges.last_mut() {
            Some(range) if range.last.checked_add(1) == Some(port) => range.last = port,
            _ => ranges.push(PortRange {
                first: port,
                last: port,
            }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(exclude: &[&str], ports: &[(u16, u16)]) -> RedirectConfig {
        let range = |&(first, last)| PortRange { first, last };
        RedirectConfig {
            exclude: exclude.iter().map(|net| net.parse().unwrap()).collect(),
            exclude_ports: ports.iter().map(range).collect(),
            ..RedirectConfig::default()
        }
    }

    #[test]
    fn equal_policies_have_equal_canonical_forms() {
        let written = config(
            &["10.1.2.3/8", "fd00::/8", "192.0.2.0/24", "10.0.0.0/8"],
            &[(90, 91), (80, 89), (7, 7)],
        );
        let canonical = canonical(&written).unwrap();
        let expected = config(
            &["10.0.0.0/8", "192.0.2.0/24", "fd00::/8"],
            &[(7, 7), (80, 91)],
        );
        assert_eq!(canonical, expected);
        assert_eq!(super::canonical(&canonical), Ok(canonical));
    }
}
