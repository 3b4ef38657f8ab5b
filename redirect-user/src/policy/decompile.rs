//! Map rows back to configuration: what `show`, `cidr` and `update` read off a live pod.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use redirect_common::abi::{CidrFlags, PolicyRow, PortFlags};

use crate::config::{Include, OwnerGroups, PortRange, ProxyIds, RedirectConfig};

/// The configuration that compiles to these rows, in canonical form: ranges without host bits and
/// in address order, owner groups in order, each once.
///
/// Inbound options are not in the maps yet and come back empty.
pub fn decompile(
    row: &PolicyRow,
    cidrs: &[(IpNet, CidrFlags)],
    ports: &[(u16, PortFlags)],
    mut groups: Vec<u32>,
) -> RedirectConfig {
    let written = |is: fn(CidrFlags) -> bool| {
        let mut nets: Vec<_> = cidrs
            .iter()
            .filter(|(_, flags)| is(flags.own()))
            .map(as_written)
            .collect();
        nets.sort_unstable();
        nets
    };
    let in_list = |is: fn(PortFlags) -> bool| {
        let mut numbers: Vec<_> = ports
            .iter()
            .filter(|(_, flags)| is(*flags))
            .map(|(port, _)| *port)
            .collect();
        numbers.sort_unstable();
        ranges(&numbers)
    };
    let include = if row.flags.any_included() {
        Include::Any
    } else {
        Include::Cidrs(written(CidrFlags::included))
    };
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
        proxy_uids: ProxyIds::of_row(row.proxy_uids),
        proxy_gids: ProxyIds::of_row(row.proxy_gids),
        owner_groups,
        owner_groups_exclude,
        include,
        exclude: written(CidrFlags::excluded),
        include_ports: in_list(PortFlags::included),
        exclude_ports: in_list(PortFlags::excluded),
        ..RedirectConfig::default()
    }
}

/// The range, with host bits where they make it a loopback one.
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

/// Sorted numbers as ranges.
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
