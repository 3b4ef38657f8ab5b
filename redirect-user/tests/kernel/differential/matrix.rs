//! The matrix of the comparison: configurations, identities and destinations.

use std::net::SocketAddrV6;

use redirect_testkit::Dial;
use redirect_user::config::{Include, OwnerGroups, PortRange, ProxyIds, RedirectConfig};

use crate::{
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, FAR_V4, FAR_V6, SECOND_V4, SECOND_V6, at},
    inbound::every_port,
};

/// Identities (uid and gid): root, the proxy, the proxy by uid only and by gid only, the application.
pub(crate) const IDENTITIES: [(u32, u32); 5] =
    [(0, 0), (1337, 1337), (1337, 0), (0, 1337), (1000, 1000)];

/// Adds identities that are the proxy by only one of its several uids or gids.
pub(super) fn identities(settings: &RedirectConfig) -> Vec<(u32, u32)> {
    let (uids, gids) = (
        settings.proxy_uids.as_slice(),
        settings.proxy_gids.as_slice(),
    );
    let users = uids.iter().skip_while(|_| uids.len() == 1);
    let groups = gids.iter().skip_while(|_| gids.len() == 1);
    IDENTITIES
        .into_iter()
        .chain(users.map(|uid| (*uid, 1000)))
        .chain(groups.map(|gid| (1000, *gid)))
        .collect()
}

/// The configurations by name.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn configs() -> Vec<(&'static str, RedirectConfig)> {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().expect(text)).collect();
    let everything = RedirectConfig {
        include: Include::Any,
        ..RedirectConfig::default()
    };
    let list = |texts: &[&str]| RedirectConfig {
        include: Include::Cidrs(nets(texts)),
        ..RedirectConfig::default()
    };
    let groups = |groups: &[u32]| OwnerGroups::List(groups.to_vec());
    let several = |settings: RedirectConfig| RedirectConfig {
        proxy_uids: ProxyIds::new(vec![3, 4]).expect("two"),
        proxy_gids: ProxyIds::new(vec![1, 2]).expect("two"),
        ..settings
    };
    vec![
        ("everything", everything.clone()),
        (
            "everything but ports and ranges, own subnets among them",
            RedirectConfig {
                exclude: nets(&[
                    "36.152.44.0/24",
                    "2001:db8:1::/48",
                    "10.77.0.0/24",
                    "fd00:77::/64",
                ]),
                exclude_ports: vec![PortRange::single(5555)],
                include_ports: vec![PortRange::single(443), PortRange::single(5555)],
                ..everything.clone()
            },
        ),
        (
            "a list of ranges",
            RedirectConfig {
                include_ports: vec![PortRange::single(443)],
                exclude: nets(&["203.0.113.10/32"]),
                ..list(&["203.0.113.0/24", "36.152.44.96/32", "2001:db8::/48"])
            },
        ),
        (
            "loopback in the list",
            RedirectConfig {
                exclude: nets(&["203.0.113.0/24"]),
                exclude_ports: vec![PortRange::single(5555)],
                include_ports: vec![PortRange::single(15008)],
                ..list(&["127.0.0.0/8", "2001:db8::/48"])
            },
        ),
        (
            "loopback of IPv6 and the pod's subnets in the list",
            list(&["::1/128", "10.77.0.0/24", "fd00:77::/64"]),
        ),
        (
            "all of 127/8 is loopback",
            RedirectConfig {
                loopback4: "127.0.0.0/8".parse().expect("a range"),
                ..list(&["127.0.0.0/8", "203.0.113.0/24"])
            },
        ),
        (
            "127.0.0.1 is not loopback",
            RedirectConfig {
                loopback4: "127.0.0.4/30".parse().expect("a range"),
                ..everything.clone()
            },
        ),
        ("nothing", list(&[])),
        (
            "everything, and everything inbound",
            RedirectConfig {
                inbound: every_port().inbound,
                ..everything.clone()
            },
        ),
        (
            "another user and group",
            RedirectConfig {
                proxy_uids: 1000.into(),
                proxy_gids: 0.into(),
                ..everything.clone()
            },
        ),
        ("several users and groups", several(everything.clone())),
        (
            "every group but some",
            RedirectConfig {
                owner_groups_exclude: vec![1000, 5],
                include_ports: vec![PortRange::single(443)],
                ..everything.clone()
            },
        ),
        (
            "no group but some",
            RedirectConfig {
                owner_groups: groups(&[1000, 1337]),
                ..everything.clone()
            },
        ),
        (
            "no group",
            RedirectConfig {
                owner_groups: groups(&[]),
                ..everything
            },
        ),
        (
            "no group but one, loopback in the list",
            RedirectConfig {
                owner_groups: groups(&[0]),
                ..list(&[
                    "127.0.0.0/8",
                    "10.77.0.0/24",
                    "203.0.113.0/24",
                    "2001:db8::/48",
                ])
            },
        ),
        (
            "several users and groups, loopback in the list",
            several(list(&["127.0.0.0/8", "fd00:77::/64", "2001:db8::/48"])),
        ),
    ]
}

/// The connections by name.
pub(crate) fn probes() -> Vec<(&'static str, Dial)> {
    let mut probes = remote();
    probes.extend(own());
    probes.extend(loopback());
    probes.extend(bound());
    probes.extend(nowhere());
    probes
}

fn to(ip: &str, port: u16) -> Dial {
    Dial::to(at(ip, port))
}

/// A link-local neighbour on eth0, which is the pod's second device, dialled from the pod's link-local address.
fn link_local() -> Dial {
    let on_eth0 = |ip: &str, port| SocketAddrV6::new(ip.parse().expect(ip), port, 0, 2).into();
    Dial::to(on_eth0("fe80::77", 8080)).from(on_eth0("fe80::78", 0))
}

fn remote() -> Vec<(&'static str, Dial)> {
    vec![
        ("the world", to(ELSEWHERE_V4, 80)),
        ("the world, mapped", to(ELSEWHERE_V4, 80).mapped()),
        ("the world, IPv6", to(ELSEWHERE_V6, 80)),
        ("the other world", to(FAR_V4, 80)),
        ("the other world, mapped", to(FAR_V4, 80).mapped()),
        ("the other world, IPv6", to(FAR_V6, 80)),
        ("the other world's port 443", to(FAR_V4, 443)),
        ("the other world's port 443, IPv6", to(FAR_V6, 443)),
        ("the world's port 5555", to(ELSEWHERE_V4, 5555)),
        (
            "the world's port 5555, mapped",
            to(ELSEWHERE_V4, 5555).mapped(),
        ),
        ("the world's port 5555, IPv6", to(ELSEWHERE_V6, 5555)),
        ("the world's tunnel port", to(ELSEWHERE_V4, 15008)),
        ("a closed port of the world", to(ELSEWHERE_V4, 81)),
        ("a closed port of the world, IPv6", to(ELSEWHERE_V6, 81)),
        ("the gateway", to("10.77.0.1", 80)),
        ("the gateway, IPv6", to("fd00:77::1", 80)),
    ]
}

fn own() -> Vec<(&'static str, Dial)> {
    vec![
        ("own address", to("10.77.0.2", 8080)),
        ("own address, mapped", to("10.77.0.2", 8080).mapped()),
        ("own address, IPv6", to("fd00:77::2", 8080)),
        ("second own address", to(SECOND_V4, 8080)),
        ("second own address, mapped", to(SECOND_V4, 8080).mapped()),
        ("second own address, IPv6", to(SECOND_V6, 8080)),
        ("own tunnel port", to("10.77.0.2", 15008)),
        ("own tunnel port, IPv6", to("fd00:77::2", 15008)),
        ("own port 5555", to("10.77.0.2", 5555)),
        ("own closed port", to("10.77.0.2", 81)),
        ("own capture port", to("10.77.0.2", 15001)),
        ("own capture port, IPv6", to("fd00:77::2", 15001)),
    ]
}

fn loopback() -> Vec<(&'static str, Dial)> {
    vec![
        ("127.0.0.1", to("127.0.0.1", 8080)),
        ("127.0.0.1, mapped", to("127.0.0.1", 8080).mapped()),
        ("127.0.0.5", to("127.0.0.5", 8080)),
        ("127.0.0.5, mapped", to("127.0.0.5", 8080).mapped()),
        ("127.0.0.5, tunnel port", to("127.0.0.5", 15008)),
        ("127.0.0.6", to("127.0.0.6", 8080)),
        ("0.0.0.0", to("0.0.0.0", 8080)),
        ("0.0.0.0, mapped", to("0.0.0.0", 8080).mapped()),
        ("::1", to("::1", 8080)),
        ("::", to("::", 8080)),
        ("::6", to("::6", 8080)),
        ("::6, tunnel port", to("::6", 15008)),
        ("capture port", to("127.0.0.1", 15001)),
        ("capture port, mapped", to("127.0.0.1", 15001).mapped()),
        ("capture port, IPv6", to("::1", 15001)),
        ("inbound capture port", to("127.0.0.1", 15006)),
        ("inbound capture port, IPv6", to("::1", 15006)),
        ("capture port by 127.0.0.5", to("127.0.0.5", 15001)),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn bound() -> Vec<(&'static str, Dial)> {
    let passthrough = at("127.0.0.6", 0);
    let passthrough6 = at("::6", 0);
    vec![
        (
            "own address from 127.0.0.6",
            to("10.77.0.2", 8080).from(passthrough),
        ),
        (
            "own address from 127.0.0.6, mapped",
            to("10.77.0.2", 8080).mapped().from(passthrough),
        ),
        (
            "127.0.0.1 from 127.0.0.6",
            to("127.0.0.1", 8080).from(passthrough),
        ),
        (
            "127.0.0.5 from 127.0.0.6",
            to("127.0.0.5", 8080).from(passthrough),
        ),
        (
            "127.0.0.6 from 127.0.0.1",
            to("127.0.0.6", 15002).from(at("127.0.0.1", 0)),
        ),
        (
            "own address from ::6",
            to("fd00:77::2", 8080).from(passthrough6),
        ),
        ("::1 from ::6", to("::1", 8080).from(passthrough6)),
        (
            "the world from ::6",
            to(ELSEWHERE_V6, 80).from(passthrough6),
        ),
        (
            "the world from 127.0.0.1",
            to(ELSEWHERE_V4, 80).from(at("127.0.0.1", 0)),
        ),
        (
            "the world from ::1",
            to(ELSEWHERE_V6, 80).from(at("::1", 0)),
        ),
        (
            "the world from own address",
            to(ELSEWHERE_V4, 80).from(at("10.77.0.2", 0)),
        ),
        (
            "the world from second own address",
            to(ELSEWHERE_V4, 80).from(at(SECOND_V4, 0)),
        ),
        (
            "the world from second own address, mapped",
            to(ELSEWHERE_V4, 80).mapped().from(at(SECOND_V4, 0)),
        ),
        (
            "the world from second own address, IPv6",
            to(ELSEWHERE_V6, 80).from(at(SECOND_V6, 0)),
        ),
        (
            "the world from a wildcard",
            to(ELSEWHERE_V4, 80).from(at("0.0.0.0", 0)),
        ),
        // The kernel replaces the zero address with the address that the socket is bound to.
        (
            "0.0.0.0 from 127.0.0.5",
            to("0.0.0.0", 8080).from(at("127.0.0.5", 0)),
        ),
        (
            "0.0.0.0 from 127.0.0.5, mapped",
            to("0.0.0.0", 8080).mapped().from(at("127.0.0.5", 0)),
        ),
        (
            "0.0.0.0 from own address",
            to("0.0.0.0", 8080).from(at("10.77.0.2", 0)),
        ),
        (
            "0.0.0.0 from own address, tunnel port",
            to("0.0.0.0", 15008).from(at("10.77.0.2", 0)),
        ),
        (":: from ::6", to("::", 8080).from(passthrough6)),
        (
            ":: from own address",
            to("::", 8080).from(at("fd00:77::2", 0)),
        ),
        (
            "own address from second own address",
            to("10.77.0.2", 8080).from(at(SECOND_V4, 0)),
        ),
        (
            "0.0.0.0 from second own address",
            to("0.0.0.0", 8080).from(at(SECOND_V4, 0)),
        ),
        (
            "0.0.0.0 from second own address, mapped",
            to("0.0.0.0", 8080).mapped().from(at(SECOND_V4, 0)),
        ),
        (
            ":: from second own address",
            to("::", 8080).from(at(SECOND_V6, 0)),
        ),
    ]
}

fn nowhere() -> Vec<(&'static str, Dial)> {
    vec![
        ("multicast", to("224.0.0.1", 80)),
        ("multicast, mapped", to("224.0.0.1", 80).mapped()),
        ("multicast, IPv6", to("ff0e::1", 80)),
        ("limited broadcast", to("255.255.255.255", 80)),
        ("the subnet's broadcast", to("10.77.0.255", 80)),
        (
            "the subnet's broadcast, mapped",
            to("10.77.0.255", 80).mapped(),
        ),
        ("loopback's broadcast", to("127.255.255.255", 8080)),
        ("loopback's network address", to("127.0.0.0", 8080)),
        ("loopback's last address", to("127.255.255.254", 8080)),
        ("the zero network", to("0.0.0.5", 80)),
        ("a reserved address", to("240.0.0.1", 80)),
        ("port 0", to(ELSEWHERE_V4, 0)),
        ("port 0, IPv6", to(ELSEWHERE_V6, 0)),
        ("a link-local neighbour", link_local()),
    ]
}
