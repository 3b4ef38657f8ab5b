//! Random flows under a policy.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rand::RngExt as _;
use redirect_testkit::{Flow, FlowKind, Pod, Side};
use redirect_user::config::RedirectConfig;

use super::{super::site::OPEN, edges::Edges, generator::Generator, policy::ip};
use crate::harness::{ELSEWHERE_V4, ELSEWHERE_V6, FAR_V4, FAR_V6, SECOND_V4, SECOND_V6};

/// Destinations with a meaning of their own.
const SPECIAL: [&str; 28] = [
    FAR_V4,
    FAR_V6,
    ELSEWHERE_V4,
    ELSEWHERE_V6,
    "10.77.0.2",
    SECOND_V4,
    "10.77.0.1",
    "10.77.0.77",
    "10.77.0.255",
    "fd00:77::2",
    SECOND_V6,
    "fd00:77::1",
    "fd00:77::77",
    "127.0.0.1",
    "127.0.0.1",
    "127.0.0.2",
    "127.0.0.6",
    "127.255.255.254",
    "127.255.255.255",
    "0.0.0.0",
    "::",
    "::1",
    "::1",
    "::6",
    "224.0.0.1",
    "ff0e::1",
    "255.255.255.255",
    "240.0.0.1",
];

/// The addresses of the pod that the world can reach.
const OWN: [&str; 4] = ["10.77.0.2", SECOND_V4, "fd00:77::2", SECOND_V6];
/// A multicast address to which the pod can send, but from which no answer comes.
const MULTICAST: &str = "224.0.0.251";

impl Generator {
    /// Generates flows under a policy.
    pub(in crate::flows) fn flows(&mut self, config: &RedirectConfig, count: usize) -> Vec<Flow> {
        let edges = Edges::of(config);
        (0..count).map(|_| self.flow(&edges)).collect()
    }

    /// Generates a connection of the world to the pod.
    fn arrival(&mut self, edges: &Edges) -> Flow {
        let port = if self.rng.random() {
            self.one(&OPEN)
        } else {
            self.one(&edges.in_ports)
        };
        Flow {
            client: Side::World,
            uid: 0,
            gid: 0,
            kind: FlowKind::Connection,
            to: SocketAddr::new(ip(self.one(&OWN)), port.max(1)),
            mapped: false,
            from: None,
        }
    }

    fn flow(&mut self, edges: &Edges) -> Flow {
        if self.once_in(8) {
            return self.arrival(edges);
        }
        let ip = if !edges.addresses.is_empty() && self.rng.random() {
            self.one(&edges.addresses)
        } else {
            ip(self.one(&SPECIAL))
        };
        // A mapped address is an IPv4 address on an IPv6 socket.
        let (ip, is_mapped) = (ip.to_canonical(), ip.to_canonical() != ip);
        let port = if self.once_in(edges.dns) {
            53
        } else if self.rng.random() {
            self.one(&OPEN)
        } else {
            self.one(&edges.ports)
        };
        let flow = Flow {
            client: Side::Pod,
            uid: self.one(&edges.uids),
            gid: self.one(&edges.gids),
            kind: FlowKind::Connection,
            to: SocketAddr::new(ip, port),
            mapped: is_mapped || (ip.is_ipv4() && self.once_in(4)),
            from: self.once_in(5).then(|| self.source(ip)),
        };
        match port {
            53 if self.once_in(2) => self.datagram(flow),
            80 if self.once_in(10) => self.datagram(flow),
            _ => flow,
        }
    }

    /// Turns a connection into a datagram. Few datagrams go to destinations without an answer, because each costs the
    /// time limit.
    fn datagram(&mut self, mut flow: Flow) -> Flow {
        flow.kind = self.one(&[FlowKind::ConnectedDatagram, FlowKind::Datagram]);
        if self.once_in(200) {
            flow.to.set_ip(ip(MULTICAST));
            flow.from = None;
        } else if is_silent(flow.to.ip()) {
            flow.to.set_ip(ip(ELSEWHERE_V4));
            flow.from = None;
        }
        if !is_local(flow.to.ip()) && flow.from == Some(Ipv6Addr::LOCALHOST.into()) {
            flow.from = None;
        }
        flow
    }

    fn source(&mut self, to: IpAddr) -> IpAddr {
        let text = if to.is_ipv4() {
            self.one(&[
                "10.77.0.2",
                SECOND_V4,
                "127.0.0.1",
                "127.0.0.5",
                "127.0.0.6",
            ])
        } else if is_local(to) || self.once_in(100) {
            self.one(&["fd00:77::2", SECOND_V6, "::1", "::6"])
        } else {
            // The world never answers ::1, which costs the time limit.
            self.one(&["fd00:77::2", SECOND_V6, "::6"])
        };
        ip(text)
    }
}

/// Whether no answer can come from this address.
fn is_silent(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => {
            v4.is_multicast()
                || v4.octets()[0] == 0 && !v4.is_unspecified()
                || v4.octets() == [127, 255, 255, 255]
                || v4.octets() == [10, 77, 0, 255]
                || v4.is_broadcast()
        }
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

fn is_local(addr: IpAddr) -> bool {
    let own = [
        Pod::V4.into(),
        Pod::V6.into(),
        ip(SECOND_V4),
        ip(SECOND_V6),
        ip("::6"),
    ];
    addr.is_loopback() || addr.is_unspecified() || own.contains(&addr)
}
