//! Random configurations.

use std::net::IpAddr;

use anyhow::Result;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use redirect_user::config::{
    Dns, Inbound, InboundPorts, Include, Interface, OwnerGroups, PortRange, ProxyIds,
    RedirectConfig,
};

fn nets() -> impl Strategy<Value = Vec<IpNet>> {
    let v4 = (any::<[u8; 4]>(), 0_u8..=32)
        .prop_map(|(addr, len)| Ipv4Net::new(addr.into(), len).expect("a length").into());
    let v6 = (any::<[u8; 16]>(), 0_u8..=128)
        .prop_map(|(addr, len)| Ipv6Net::new(addr.into(), len).expect("a length").into());
    prop::collection::vec(prop_oneof![v4, v6], 0..6)
}

fn ports() -> impl Strategy<Value = Vec<PortRange>> {
    let range = any::<(u16, u16)>().prop_map(|(a, b)| PortRange {
        first: a.min(b),
        last: a.max(b),
    });
    let single = any::<u16>().prop_map(PortRange::single);
    prop::collection::vec(prop_oneof![range, single], 0..4)
}

fn interfaces() -> impl Strategy<Value = Vec<Interface>> {
    let name = prop_oneof!["[a-z]{2}[0-9]", "[a-z]{3}\\+"];
    prop::collection::vec(name.prop_map(Interface), 0..3)
}

fn owners() -> impl Strategy<Value = ProxyIds> {
    prop::collection::vec(0..u32::MAX, 1..=4).prop_map(|ids| ProxyIds::new(ids).expect("ids"))
}

fn dns() -> impl Strategy<Value = Dns> {
    let server = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ];
    let servers = prop::collection::vec(server, 0..4);
    (any::<(bool, bool)>(), servers).prop_map(|((redirect, capture_all), servers)| Dns {
        redirect,
        capture_all,
        servers,
    })
}

/// Configurations of every kind, with and without DNS capture.
pub(crate) fn configs_with_dns() -> impl Strategy<Value = RedirectConfig> {
    (configs(), dns()).prop_map(|(config, dns)| RedirectConfig { dns, ..config })
}

/// Configurations of every kind without DNS capture.
pub(crate) fn configs() -> impl Strategy<Value = RedirectConfig> {
    let include = prop_oneof![Just(Include::Any), nets().prop_map(Include::Cidrs)];
    let inbound = prop_oneof![
        Just(InboundPorts::Any),
        ports().prop_map(InboundPorts::List)
    ];
    let numbers = (1_u16.., 1_u16.., any::<u16>(), owners(), owners());
    let lists = (include, nets(), ports(), ports(), inbound, ports());
    let interfaces = interfaces();
    let gids = || prop::collection::vec(0..u32::MAX, 0..4);
    let only = prop_oneof![Just(OwnerGroups::Any), gids().prop_map(OwnerGroups::List)];
    (numbers, lists, (only, gids()), interfaces).prop_map(|(numbers, lists, groups, interfaces)| {
        let (out_port, in_port, tunnel_port, proxy_uids, proxy_gids) = numbers;
        let (owner_groups, owner_groups_exclude) = groups;
        let (include, exclude, include_ports, exclude_ports, inbound, inbound_except) = lists;
        RedirectConfig {
            out_port,
            in_port,
            tunnel_port,
            proxy_uids,
            proxy_gids,
            owner_groups,
            owner_groups_exclude,
            include,
            exclude,
            include_ports,
            exclude_ports,
            exclude_interfaces: interfaces,
            inbound: Inbound {
                include_ports: inbound,
                exclude_ports: inbound_except,
                ..Inbound::default()
            },
            ..RedirectConfig::default()
        }
    })
}

/// Draws the same configurations in every run.
pub(crate) fn random(count: usize) -> Result<Vec<RedirectConfig>> {
    let mut runner = TestRunner::deterministic();
    let tree = |_| {
        configs()
            .new_tree(&mut runner)
            .map(|tree| tree.current())
            .map_err(|reason| anyhow::anyhow!("making a configuration: {reason}"))
    };
    (0..count).map(tree).collect()
}
