//! Policies and connections drawn at random, where they are most likely to differ: ranges inside
//! one another, and connections at the edges of whatever the policy names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng, seq::IndexedRandom as _};
use redirect_testkit::{Flow, FlowKind, PROXY_ID, Pod, Side};
use redirect_user::config::{
    DEFAULT_LOOPBACK4, Dns, Inbound, InboundPorts, Include, Interface, OwnerGroups, PortRange,
    ProxyIds, RedirectConfig,
};

use super::site::{IN_PORTS, OPEN, OUT_PORTS};
use crate::harness::{ELSEWHERE_V4, ELSEWHERE_V6, FAR_V4, FAR_V6, SECOND_V4, SECOND_V6};

/// Addresses that ranges are laid around: few, so that ranges nest and overlap.
const AROUND_V4: [&str; 11] = [
    FAR_V4,
    ELSEWHERE_V4,
    "203.0.113.200",
    "10.77.0.2",
    SECOND_V4,
    "10.77.0.1",
    "127.0.0.1",
    "127.0.0.6",
    "0.0.0.1",
    "128.0.0.0",
    "255.255.255.254",
];
const AROUND_V6: [&str; 9] = [
    FAR_V6,
    ELSEWHERE_V6,
    "2001:db8::8000:0:0:1",
    "fd00:77::2",
    SECOND_V6,
    "::1",
    "::6",
    "8000::",
    // Of the other family, if anybody takes it for IPv4.
    "::ffff:203.0.113.10",
];
/// Prefix lengths that are likely, besides all others.
const LENGTHS_V4: [u8; 9] = [0, 1, 8, 16, 24, 30, 31, 32, 32];
const LENGTHS_V6: [u8; 9] = [0, 1, 32, 48, 64, 96, 127, 128, 128];
/// Users and groups, the largest id there is among them.
const IDS: [u32; 8] = [1337, 1337, 1337, 1000, 0, 3, 4, u32::MAX - 1];
/// Ports that policies name.
const PORTS: [u16; 13] = [
    53, 80, 443, 1000, 1001, 1002, 5000, 5001, 5003, 8080, 15008, 65535, 1,
];
/// Destinations that mean something by themselves.
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

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

/// The pod's addresses that the world can reach.
const OWN: [&str; 4] = ["10.77.0.2", SECOND_V4, "fd00:77::2", SECOND_V6];
/// Resolvers that policies name.
const RESOLVERS: [&str; 12] = [
    FAR_V4,
    FAR_V6,
    ELSEWHERE_V4,
    ELSEWHERE_V6,
    "10.77.0.2",
    SECOND_V4,
    "fd00:77::2",
    "10.77.0.77",
    "127.0.0.53",
    "127.0.0.1",
    "::1",
    "0.0.0.0",
];
/// Multicast that the pods' kernel sends and nobody answers.
const MULTICAST: &str = "224.0.0.251";

/// One policy of a run, and its connections.
#[derive(Debug)]
pub(super) struct Draw {
    rng: ChaCha8Rng,
}

impl Draw {
    /// The draw of the policy `number` of the run of a seed; it does not depend on the others.
    pub(super) fn new(seed: u64, number: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        Self { rng }
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(&mut self.rng).expect("something to choose from")
    }

    /// True once in `n` times.
    fn once_in(&mut self, n: u32) -> bool {
        self.rng.random_ratio(1, n)
    }

    fn several<T>(&mut self, most: usize, one: impl Fn(&mut Self) -> T) -> Vec<T> {
        let count = self.rng.random_range(0..=most);
        (0..count).map(|_| one(self)).collect()
    }

    /// A policy.
    pub(super) fn policy(&mut self) -> RedirectConfig {
        let include = if self.once_in(3) {
            Include::Any
        } else {
            let mut nets = self.several(6, Self::net);
            if self.once_in(3) {
                nets.push(self.loopback_net());
            }
            Include::Cidrs(nets)
        };
        let owner_groups = if self.once_in(5) {
            OwnerGroups::List(self.several(3, Self::id))
        } else {
            OwnerGroups::Any
        };
        let (out_port, in_port) = if self.once_in(4) {
            (self.one(&OUT_PORTS), self.one(&IN_PORTS))
        } else {
            (OUT_PORTS[0], IN_PORTS[0])
        };
        let mut config = RedirectConfig {
            out_port,
            in_port,
            tunnel_port: if self.once_in(4) {
                self.one(&OPEN)
            } else {
                15008
            },
            proxy_uids: self.proxy_ids(),
            proxy_gids: self.proxy_ids(),
            owner_groups,
            owner_groups_exclude: self.several(3, Self::id),
            include,
            exclude: self.several(6, Self::net),
            include_ports: self.several(3, Self::ports),
            exclude_ports: self.several(2, Self::ports),
            loopback4: if self.once_in(4) {
                self.loopback4()
            } else {
                DEFAULT_LOOPBACK4
            },
            exclude_interfaces: if self.once_in(8) {
                vec![Interface(
                    self.one(&["eth0", "lo", "et+", "eth9"]).to_owned(),
                )]
            } else {
                Vec::new()
            },
            dns: self.dns(),
            inbound: self.inbound(),
            dual_stack: !self.once_in(8),
            ..RedirectConfig::default()
        };
        if !has_resolver(&config) {
            config.proxy_uids = PROXY_ID.into();
        }
        config
    }

    fn inbound(&mut self) -> Inbound {
        let include_ports = if self.once_in(3) {
            InboundPorts::Any
        } else {
            InboundPorts::List(self.several(4, Self::ports))
        };
        Inbound {
            include_ports,
            exclude_ports: self.several(3, Self::ports),
            ..Inbound::default()
        }
    }

    /// Mostly on: the rest of the chain is the same with it.
    fn dns(&mut self) -> Dns {
        if self.once_in(3) {
            return Dns::default();
        }
        let mut servers = self.several(4, |draw| ip(draw.one(&RESOLVERS)));
        servers.dedup();
        let capture_all = servers.is_empty() || self.once_in(4);
        Dns {
            redirect: true,
            capture_all,
            servers,
        }
    }

    fn id(&mut self) -> u32 {
        self.one(&IDS)
    }

    fn proxy_ids(&mut self) -> ProxyIds {
        if self.once_in(3) {
            return 1337.into();
        }
        let count = self.rng.random_range(1..=4);
        let ids = (0..count).map(|_| self.id()).collect();
        ProxyIds::new(ids).expect("one to four")
    }

    /// Host bits stay: they are not the range's, but iptables are given them too.
    fn net(&mut self) -> IpNet {
        let (around, lengths, most) = if self.rng.random() {
            (AROUND_V4.as_slice(), LENGTHS_V4, 32)
        } else {
            (AROUND_V6.as_slice(), LENGTHS_V6, 128)
        };
        let addr = ip(self.one(around));
        let length = if self.rng.random() {
            self.one(&lengths)
        } else {
            self.rng.random_range(0..=most)
        };
        IpNet::new(addr, length).expect("a length of the family")
    }

    fn loopback_net(&mut self) -> IpNet {
        let text = self.one(&[
            "127.0.0.0/8",
            "127.0.0.1/32",
            "127.0.0.1/1",
            "127.0.0.6/31",
            "::1/128",
            "::1/64",
            "::ffff:127.0.0.1/128",
        ]);
        text.parse().expect(text)
    }

    fn loopback4(&mut self) -> Ipv4Net {
        let text = self.one(&[
            "127.0.0.0/8",
            "127.0.0.0/31",
            "127.0.0.2/32",
            "127.0.0.4/30",
            "127.128.0.0/9",
        ]);
        text.parse().expect(text)
    }

    fn ports(&mut self) -> PortRange {
        let first = self.one(&PORTS);
        match self.rng.random_range(0..12) {
            0 => PortRange {
                first,
                last: self.one(&PORTS).max(first),
            },
            1 => PortRange {
                first,
                last: u16::MAX,
            },
            2 => PortRange {
                first: 0,
                last: first,
            },
            _ => PortRange::single(first),
        }
    }

    /// Connections under a policy.
    pub(super) fn flows(&mut self, config: &RedirectConfig, count: usize) -> Vec<Flow> {
        let edges = Edges::of(config);
        (0..count).map(|_| self.flow(&edges)).collect()
    }

    /// A connection that the world makes to the pod.
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
        // A mapped address is one of IPv4, on a socket of IPv6.
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

    /// The same by a datagram. Few are sent to where no answer can come from, because each is waited
    /// for.
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
            // From ::1 the world never answers, which takes its time.
            self.one(&["fd00:77::2", SECOND_V6, "::6"])
        };
        ip(text)
    }
}

/// Whether queries can be told from others at all: the mesh's resolver is the proxy's.
pub(super) fn has_resolver(config: &RedirectConfig) -> bool {
    let ids = [&config.proxy_uids, &config.proxy_gids];
    !config.dns.redirect || ids.iter().any(|ids| ids.as_slice().contains(&PROXY_ID))
}

/// Whether nobody answers from this address.
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

/// What lies at and beside the edges of a policy.
#[derive(Debug)]
struct Edges {
    /// One flow in how many is to port 53.
    dns: u32,
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
    in_ports: Vec<u16>,
    uids: Vec<u32>,
    gids: Vec<u32>,
}

impl Edges {
    fn of(config: &RedirectConfig) -> Self {
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

/// The ports at the edges of ranges, some others, and the neighbours of all.
fn beside(ranges: impl Iterator<Item = PortRange>, others: &[u16]) -> Vec<u16> {
    ranges
        .flat_map(|range| [range.first, range.last])
        .chain(others.iter().copied())
        .flat_map(|port| [port.saturating_sub(1), port, port.saturating_add(1)])
        .collect()
}

/// Ids, their neighbours, and those of nobody in particular.
fn around(ids: &[u32]) -> Vec<u32> {
    // The largest number is no id.
    let neighbours = |id: &u32| [*id, *id, id.saturating_sub(1), (id + 1).min(u32::MAX - 1)];
    ids.iter()
        .flat_map(neighbours)
        .chain([0, 1000, 1000, 1000])
        .collect()
}

/// The first and the last address of a range and their neighbours, and the address it was written
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

/// The next or previous address, the same again at the end of all addresses.
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

/// Whether an address means nothing without a device.
const fn needs_device(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
