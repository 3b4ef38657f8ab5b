//! The network of a pod, as probes need it: addresses, interfaces and routes.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    slice,
};

use ipnet::IpNet;
use redirect_user::{
    policy::{Exclusion, Undecidable},
    sys::{
        netns::{LocalAddress, LocalRange, NetInterface, NetnsSnapshot, Route, Routing},
        userns::IdMaps,
    },
};

use crate::netfilter::{Interface, Match, Ruleset, Via};

/// The network namespace of a pod, real or imagined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    netns: NetnsSnapshot,
}

/// The IPv4 address of an imagined pod (RFC 5737).
const IMAGINED4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
/// The IPv6 address of an imagined pod (RFC 3849).
const IMAGINED6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77);

impl Site {
    /// The site of a real pod.
    pub const fn new(netns: NetnsSnapshot) -> Self {
        Self { netns }
    }

    /// The site of an imagined pod with one address of each family, Istio's `::6`, and every interface that these rules
    /// name.
    pub fn imagined(rules: &[&Ruleset]) -> Self {
        let names: BTreeSet<_> = named(rules)
            .filter(|name| name.0 != "lo")
            .map(|name| name.0.strip_suffix('+').unwrap_or(&name.0))
            .collect();
        let interfaces = ["lo"].into_iter().chain(names).zip(1..);
        let interfaces = interfaces.map(|(name, index)| NetInterface {
            index,
            name: name.to_owned(),
        });
        let local = [
            IpAddr::from(IMAGINED4),
            IMAGINED6.into(),
            Self::passthrough(false),
        ];
        Self::new(NetnsSnapshot {
            cookie: 0,
            addresses: vec![IMAGINED4.into(), IMAGINED6.into()],
            locals: local
                .map(|addr| LocalAddress {
                    addr,
                    is_source: true,
                })
                .to_vec(),
            ranges: Vec::new(),
            broadcast: Vec::new(),
            routing: Routing {
                interfaces: interfaces.collect(),
                ..Routing::default()
            },
            source4: Some(IMAGINED4),
            source6: Some(IMAGINED6),
            ids: IdMaps::default(),
            is_initial: false,
            file: None,
        })
    }

    /// The network namespace.
    pub const fn netns(&self) -> &NetnsSnapshot {
        &self.netns
    }

    /// Whether a route to an address leads over `lo`.
    pub fn is_local(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        let is_local = |local: &LocalAddress| local.addr == addr;
        let in_range = |range: &LocalRange| range.net.contains(&addr);
        addr.is_loopback()
            || self.netns.locals.iter().any(is_local)
            || self.netns.ranges.iter().any(in_range)
    }

    /// The pod's local addresses, without ranges.
    pub fn local_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.netns.locals.iter().map(|local| local.addr)
    }

    /// Whether routing refuses every connection to an address.
    pub fn is_refused(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        let is_odd = match addr {
            // 0.0.0.0 itself stands for loopback.
            IpAddr::V4(v4) => {
                v4.is_broadcast()
                    || v4 == Ipv4Addr::new(127, 255, 255, 255)
                    || v4.octets().first() == Some(&0) && !v4.is_unspecified()
            }
            IpAddr::V6(_) => false,
        };
        is_odd || addr.is_multicast() || self.netns.broadcast.contains(&addr)
    }

    /// The source address of an unbound socket's packets to an address.
    pub fn source(&self, to: IpAddr) -> IpAddr {
        match to {
            IpAddr::V4(v4) if v4.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            _ if self.is_local(to) => to,
            IpAddr::V4(_) => self.netns.source4.unwrap_or(IMAGINED4).into(),
            IpAddr::V6(_) => self.netns.source6.unwrap_or(IMAGINED6).into(),
        }
    }

    /// The interface by which an unbound socket's packets to a remote address leave, if there is a route.
    pub fn interface_to(&self, to: IpAddr) -> Via {
        let Routing {
            interfaces, routes, ..
        } = &self.netns.routing;
        let leading = routes.iter().filter(|route| route.net.contains(&to));
        // Among routes of one prefix the kernel prefers the first.
        let longest = leading.rev().fold(None, |longest: Option<&Route>, route| {
            longest
                .filter(|longest| longest.net.prefix_len() > route.net.prefix_len())
                .or(Some(route))
        });
        let index = longest.and_then(|route| route.interfaces.first());
        let found = interfaces
            .iter()
            .find(|interface| Some(&interface.index) == index);
        found.map_or(Via::Unnamed, |found| Via::Named(found.name.clone()))
    }

    /// The index of a device that a socket is bound to, or 0.
    pub fn index(&self, device: &Via) -> u32 {
        let mut interfaces = self.netns.routing.interfaces.iter();
        let found = device
            .name()
            .and_then(|name| interfaces.find(|interface| interface.name == name));
        found.map_or(0, |found| found.index)
    }

    /// The interfaces that match names in rules, except for `lo`.
    pub(super) fn interfaces_matching(&self, names: &BTreeSet<String>) -> BTreeSet<String> {
        let is_meant = |name: &&str| {
            *name != "lo" && names.iter().any(|of| Interface(of.clone()).matches(name))
        };
        self.names()
            .filter(is_meant)
            .map(ToOwned::to_owned)
            .collect()
    }

    /// An interface besides these, if there is one.
    pub(super) fn interface_besides(&self, names: &BTreeSet<String>) -> Option<String> {
        self.names()
            .find(|name| *name != "lo" && !names.contains(*name))
            .map(ToOwned::to_owned)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let interfaces = self.netns.routing.interfaces.iter();
        interfaces.map(|interface| interface.name.as_str())
    }

    /// The ranges at whose edges connections begin or cease to leave by an interface that rules name.
    pub(super) fn interface_edges(
        &self,
        rules: &[&Ruleset],
    ) -> Result<BTreeSet<IpNet>, Undecidable> {
        let names: BTreeSet<_> = named(rules).filter(|name| name.0 != "lo").collect();
        let mut edges = BTreeSet::new();
        for name in names {
            edges.extend(Exclusion::new(slice::from_ref(name), &self.netns.routing)?.edges());
        }
        Ok(edges)
    }

    /// The source address of the proxy's connections to the application.
    pub const fn passthrough(v4: bool) -> IpAddr {
        if v4 {
            IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6))
        } else {
            IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))
        }
    }
}

/// The interfaces that rules name.
fn named<'r>(rules: &[&'r Ruleset]) -> impl Iterator<Item = &'r Interface> {
    let tests = rules
        .iter()
        .flat_map(|rules| rules.rules())
        .flat_map(|rule| &rule.tests);
    tests.filter_map(|test| {
        if let Match::In(name) | Match::Out(name) = &test.matches {
            Some(name)
        } else {
            None
        }
    })
}
