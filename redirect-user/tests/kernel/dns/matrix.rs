//! The matrix of the comparison: configurations, identities, and scripts of queries.

use std::net::SocketAddr;

use ipnet::IpNet;
use redirect_testkit::{
    Dial, UdpScript,
    UdpStep::{self, Connect, Disconnect, Receive, Send, SendTo},
};
use redirect_user::config::{Dns, Include, OwnerGroups, PortRange, RedirectConfig};

use crate::{
    differential::IDENTITIES,
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, FAR_V4, FAR_V6, SECOND_V4, at},
};

/// The configuration that captures queries to every resolver, Istio's default for a pod.
const ALL: &str = "every resolver";
/// The configuration that captures queries to listed resolvers, although their range is excluded.
const LISTED: &str = "listed resolvers, of an excluded range";

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect(text)).collect()
}

/// Redirects everything, and captures queries to every resolver.
pub(super) fn all() -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        exclude_ports: vec![PortRange::single(15020)],
        dns: Dns {
            redirect: true,
            capture_all: true,
            servers: Vec::new(),
        },
        ..RedirectConfig::default()
    }
}

/// Redirects everything except two ranges, and captures queries to one resolver in each.
pub(super) fn listed() -> RedirectConfig {
    let servers = [FAR_V4, FAR_V6].map(|text| text.parse().expect(text));
    RedirectConfig {
        exclude: nets(&["36.152.44.0/24", "2001:db8:1::/48"]),
        dns: Dns {
            redirect: true,
            capture_all: false,
            servers: servers.to_vec(),
        },
        ..all()
    }
}

/// The configurations by name.
pub(super) fn configs() -> Vec<(&'static str, RedirectConfig)> {
    let (all, listed) = (all(), listed());
    vec![
        (ALL, all.clone()),
        (LISTED, listed.clone()),
        (
            "a local resolver, and one family",
            RedirectConfig {
                dns: Dns {
                    servers: vec!["127.0.0.53".parse().expect("an address")],
                    ..listed.dns.clone()
                },
                ..listed.clone()
            },
        ),
        (
            "port 53 is excluded",
            RedirectConfig {
                exclude_ports: vec![PortRange::single(53)],
                ..all.clone()
            },
        ),
        (
            "a group is excluded",
            RedirectConfig {
                owner_groups_exclude: vec![1000],
                ..all.clone()
            },
        ),
        (
            "no group but one, loopback in the list",
            RedirectConfig {
                owner_groups: OwnerGroups::List(vec![0]),
                include: Include::Cidrs(nets(&["127.0.0.0/8", "203.0.113.0/24", "2001:db8::/48"])),
                ..listed.clone()
            },
        ),
        (
            "no resolver",
            RedirectConfig {
                dns: Dns {
                    servers: Vec::new(),
                    ..listed.dns
                },
                ..all
            },
        ),
    ]
}

/// The identities that query under a configuration. The proxy's own queries are treated the same under most.
pub(super) fn identities(config: &str) -> &'static [(u32, u32)] {
    match config {
        ALL | LISTED => &IDENTITIES,
        _ => &[(0, 0), (1000, 1000)],
    }
}

/// A script of one query and its answer on a connected socket.
fn connected(to: SocketAddr) -> UdpScript {
    UdpScript::new([Connect(to), Send, Receive])
}

/// A script of one query and its answer on an unconnected socket.
fn unconnected(to: SocketAddr) -> UdpScript {
    UdpScript::new([SendTo(to), Receive])
}

/// The scripts by name.
pub(super) fn scripts() -> Vec<(String, UdpScript)> {
    let mut scripts = singles();
    let more = [several(), reconnected(), bound()].concat();
    scripts.extend(
        more.into_iter()
            .map(|(name, script)| (name.to_owned(), script)),
    );
    scripts
}

/// The destinations of single queries by name.
const DESTINATIONS: [(&str, &str, u16); 19] = [
    ("far", FAR_V4, 53),
    ("far6", FAR_V6, 53),
    ("elsewhere", ELSEWHERE_V4, 53),
    ("elsewhere6", ELSEWHERE_V6, 53),
    ("own", "10.77.0.2", 53),
    ("second", SECOND_V4, 53),
    ("own6", "fd00:77::2", 53),
    ("127.0.0.1", "127.0.0.1", 53),
    ("127.0.0.53", "127.0.0.53", 53),
    ("::1", "::1", 53),
    ("0.0.0.0", "0.0.0.0", 53),
    ("::", "::", 53),
    ("far:9999", FAR_V4, 9999),
    ("far6:9999", FAR_V6, 9999),
    ("own:9999", "10.77.0.2", 9999),
    ("proxy", "127.0.0.1", 15053),
    ("multicast", "224.0.0.251", 53),
    ("multicast6", "ff0e::fb", 53),
    ("broadcast", "10.77.0.255", 53),
];

/// The scripts of single queries: to each destination, from connected and unconnected sockets of either family.
fn singles() -> Vec<(String, UdpScript)> {
    let mut scripts = Vec::new();
    for (name, ip, port) in DESTINATIONS {
        let to = at(ip, port);
        scripts.push((format!("connect: {name}"), connected(to)));
        scripts.push((format!("sendto: {name}"), unconnected(to)));
        if to.is_ipv4() {
            scripts.push((format!("connect: {name}, mapped"), connected(to).ipv6()));
            scripts.push((format!("sendto: {name}, mapped"), unconnected(to).ipv6()));
        }
    }
    scripts
}

fn several() -> Vec<(&'static str, UdpScript)> {
    let (far, elsewhere) = (at(FAR_V4, 53), at(ELSEWHERE_V4, 53));
    let (far6, elsewhere6) = (at(FAR_V6, 53), at(ELSEWHERE_V6, 53));
    let sends = |to: &[SocketAddr]| -> UdpScript {
        let queries = to.iter().map(|to| SendTo(*to));
        let answers = to.iter().map(|_| Receive);
        UdpScript::new(queries.chain(answers).collect::<Vec<UdpStep>>())
    };
    vec![
        ("two resolvers at once", sends(&[far, elsewhere])),
        (
            "two resolvers at once, each twice",
            sends(&[far, elsewhere, elsewhere, far]),
        ),
        ("two resolvers at once, IPv6", sends(&[far6, elsewhere6])),
        (
            "a resolver and another server",
            sends(&[far, at(ELSEWHERE_V4, 9999)]),
        ),
        (
            "both families at once",
            sends(&[far, far6, elsewhere6, elsewhere]),
        ),
        (
            "two resolvers in turn",
            UdpScript::new([SendTo(far), Receive, SendTo(elsewhere), Receive]),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn reconnected() -> Vec<(&'static str, UdpScript)> {
    let (far, other) = (at(FAR_V4, 53), at(ELSEWHERE_V4, 9999));
    let (local, elsewhere) = (at("127.0.0.1", 9999), at(ELSEWHERE_V4, 53));
    let again = |next| UdpScript::new([Connect(far), Send, Receive, Connect(next), Send, Receive]);
    let anew = |next| {
        UdpScript::new([
            Connect(far),
            Send,
            Receive,
            Disconnect,
            Connect(next),
            Send,
            Receive,
        ])
    };
    vec![
        ("connected again, to another resolver", again(elsewhere)),
        ("connected again, to another server", again(other)),
        ("connected again, to a local port", again(local)),
        ("reconnected, to another resolver", anew(elsewhere)),
        ("reconnected, to another server", anew(other)),
        ("reconnected, to a local port", anew(local)),
        ("reconnected, to the proxy", anew(at("127.0.0.1", 15053))),
        (
            "reconnected, to another server, IPv6",
            UdpScript::new([
                Connect(at(FAR_V6, 53)),
                Send,
                Receive,
                Disconnect,
                Connect(at(ELSEWHERE_V6, 9999)),
                Send,
                Receive,
            ]),
        ),
        (
            "disconnected, then sending",
            UdpScript::new([
                Connect(far),
                Send,
                Receive,
                Disconnect,
                SendTo(other),
                Receive,
            ]),
        ),
        (
            "disconnected, then query",
            UdpScript::new([
                Connect(far),
                Send,
                Receive,
                Disconnect,
                SendTo(elsewhere),
                Receive,
            ]),
        ),
        (
            "connected, and sending to the same",
            UdpScript::new([Connect(far), SendTo(far), Receive]),
        ),
        (
            "connected, and sending to another resolver",
            UdpScript::new([Connect(far), SendTo(elsewhere), Receive]),
        ),
        (
            "connected to another server, then query",
            UdpScript::new([Connect(other), SendTo(far), Receive]),
        ),
        (
            "query, then connected",
            UdpScript::new([SendTo(far), Receive, Connect(elsewhere), Send, Receive]),
        ),
    ]
}

fn bound() -> Vec<(&'static str, UdpScript)> {
    let far = at(FAR_V4, 53);
    vec![
        (
            "connect: bound to own",
            connected(far).from(at("10.77.0.2", 0)),
        ),
        (
            "sendto: bound to own",
            unconnected(far).from(at("10.77.0.2", 0)),
        ),
        (
            "connect: bound to second",
            connected(far).from(at(SECOND_V4, 0)),
        ),
        (
            "sendto: bound to second",
            unconnected(far).from(at(SECOND_V4, 0)),
        ),
        (
            "connect: bound to a port",
            connected(far).from(at("0.0.0.0", 0)),
        ),
        (
            "sendto: bound to a port",
            unconnected(far).from(at("0.0.0.0", 0)),
        ),
        (
            "connect: bound to a port, IPv6",
            connected(at(FAR_V6, 53)).from(at("::", 0)),
        ),
        (
            "sendto: bound to a port, IPv6",
            unconnected(at(FAR_V6, 53)).from(at("::", 0)),
        ),
        (
            "connect: bound to 127.0.0.1",
            connected(far).from(at("127.0.0.1", 0)),
        ),
        (
            "sendto: bound to 127.0.0.1",
            unconnected(far).from(at("127.0.0.1", 0)),
        ),
        (
            "connect: 127.0.0.6 to own",
            connected(at("10.77.0.2", 53)).from(at("127.0.0.6", 0)),
        ),
        (
            "sendto: 127.0.0.6 to own",
            unconnected(at("10.77.0.2", 53)).from(at("127.0.0.6", 0)),
        ),
    ]
}

/// The queries by TCP, by name.
pub(super) fn dials() -> Vec<(&'static str, Dial)> {
    let to = |ip| Dial::to(at(ip, 53));
    vec![
        ("far", to(FAR_V4)),
        ("far, mapped", to(FAR_V4).mapped()),
        ("far, IPv6", to(FAR_V6)),
        ("elsewhere", to(ELSEWHERE_V4)),
        ("elsewhere, IPv6", to(ELSEWHERE_V6)),
        ("own", to("10.77.0.2")),
        ("second", to(SECOND_V4)),
        ("own, IPv6", to("fd00:77::2")),
        ("127.0.0.1", to("127.0.0.1")),
        ("127.0.0.53", to("127.0.0.53")),
        ("0.0.0.0", to("0.0.0.0")),
        ("::1", to("::1")),
        (
            "own from 127.0.0.6",
            to("10.77.0.2").from(at("127.0.0.6", 0)),
        ),
        ("own port 8080", Dial::to(at("10.77.0.2", 8080))),
        ("the proxy", Dial::to(at("127.0.0.1", 15053))),
        ("multicast", to("224.0.0.251")),
    ]
}
