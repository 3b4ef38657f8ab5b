//! The connections that are made, and their first packets.

use std::net::{IpAddr, SocketAddr};

use redirect_common::facts::Owner;
use redirect_iptables::{
    netfilter::{Packet, Protocol, Via},
    rules::Family,
};
use redirect_testkit::{Dial, Mode, Pod, Worker, World};

use super::scene::{APP_PORTS, Scene, WORLD, WORLD_PORTS};

/// A connection, and its first packet in the pod.
pub(super) struct Call<'a> {
    pub(super) worker: &'a Worker,
    pub(super) dial: Dial,
    pub(super) packet: Packet,
    /// Whether the connection comes from outside.
    pub(super) is_inbound: bool,
}

/// Every connection of a family.
pub(super) fn calls(scene: &Scene, family: Family) -> Vec<Call<'_>> {
    let mut calls = Vec::new();
    for (owner, worker) in &scene.dialling {
        let packets = calls_to_world(family, *owner).chain(calls_to_pod(family, *owner));
        calls.extend(packets.map(|(dial, packet)| Call {
            worker,
            // For conntrack, datagrams from the same port belong to one connection, and the rules see only its first
            // packet.
            dial: if packet.protocol == Protocol::Udp {
                dial.from(scene.fresh_source(family))
            } else {
                dial
            },
            packet,
            is_inbound: false,
        }));
    }
    calls.extend(APP_PORTS.map(|port| {
        let to = SocketAddr::new(pod(family), port);
        let source = match family {
            Family::V4 => World::V4.into(),
            Family::V6 => World::V6.into(),
        };
        Call {
            worker: &scene.world,
            dial: Dial::to(to),
            packet: packet(source, to, eth0(), None),
            is_inbound: true,
        }
    }));
    calls
}

/// Calls to the world.
fn calls_to_world(family: Family, owner: Owner) -> impl Iterator<Item = (Dial, Packet)> {
    let world = WORLD.into_iter().map(address);
    let world = world.filter(move |address| address.is_ipv4() == (family == Family::V4));
    world.flat_map(move |address| {
        WORLD_PORTS.into_iter().flat_map(move |port| {
            let to = SocketAddr::new(address, port);
            let tcp = packet(pod(family), to, eth0(), Some(owner));
            let udp = Packet {
                protocol: Protocol::Udp,
                ..tcp.clone()
            };
            let mapped = to.is_ipv4().then(|| (Dial::to(to).mapped(), tcp.clone()));
            let query = (port == 53).then(|| (Dial::to(to).mode(Mode::Udp), udp));
            let plain = [(Dial::to(to), tcp)];
            plain.into_iter().chain(mapped).chain(query)
        })
    })
}

/// Calls to the pod itself, from unbound sockets and from bound ones.
fn calls_to_pod(family: Family, owner: Owner) -> impl Iterator<Item = (Dial, Packet)> {
    let (local, passthrough) = match family {
        Family::V4 => (
            &["127.0.0.1", "127.0.0.2", "0.0.0.0", "10.77.0.2"][..],
            "127.0.0.6",
        ),
        Family::V6 => (&["::1", "::", "fd00:77::2"][..], "::6"),
    };
    let passthrough = address(passthrough);
    local
        .iter()
        .map(|text| address(text))
        .flat_map(move |dialled| {
            APP_PORTS.into_iter().flat_map(move |port| {
                let on_wire = match dialled {
                    IpAddr::V4(v4) if v4.is_unspecified() => address("127.0.0.1"),
                    IpAddr::V6(v6) if v6.is_unspecified() => address("::1"),
                    IpAddr::V4(_) | IpAddr::V6(_) => dialled,
                };
                let source = if on_wire == address("127.0.0.2") {
                    address("127.0.0.1")
                } else {
                    on_wire
                };
                let to = SocketAddr::new(on_wire, port);
                let unbound = packet(source, to, Via::Loopback, Some(owner));
                // IPv4's zero address stands for the address that the socket is bound to.
                let is_bound_address = dialled.is_unspecified() && dialled.is_ipv4();
                let bound = Packet {
                    source: passthrough,
                    destination: if is_bound_address {
                        passthrough
                    } else {
                        on_wire
                    },
                    ..unbound.clone()
                };
                let dial = Dial::to(SocketAddr::new(dialled, port));
                let from = dial.clone().from(SocketAddr::new(passthrough, 0));
                [(dial, unbound), (from, bound)]
            })
        })
}

const fn packet(source: IpAddr, to: SocketAddr, via: Via, owner: Option<Owner>) -> Packet {
    Packet {
        protocol: Protocol::Tcp,
        source,
        source_port: None,
        destination: to.ip(),
        destination_port: to.port(),
        via,
        owner,
    }
}

fn eth0() -> Via {
    Via::Named("eth0".to_owned())
}

fn pod(family: Family) -> IpAddr {
    match family {
        Family::V4 => Pod::V4.into(),
        Family::V6 => Pod::V6.into(),
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect(text)
}
