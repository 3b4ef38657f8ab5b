//! Random policies.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use rand::RngExt as _;
use redirect_testkit::PROXY_ID;
use redirect_user::config::{
    DEFAULT_LOOPBACK4, Dns, Inbound, InboundPorts, Include, Interface, OwnerGroups, PortRange,
    ProxyIds, RedirectConfig,
};

use super::{
    super::site::{IN_PORTS, OPEN, OUT_PORTS},
    generator::Generator,
};
use crate::harness::{ELSEWHERE_V4, ELSEWHERE_V6, FAR_V4, FAR_V6, SECOND_V4, SECOND_V6};

/// Addresses around which ranges are generated. They are few, so that ranges nest and overlap.
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
    // A mapped address, which code may wrongly take for IPv4.
    "::ffff:203.0.113.10",
];
/// Prefix lengths that are frequent, besides all others.
const LENGTHS_V4: [u8; 9] = [0, 1, 8, 16, 24, 30, 31, 32, 32];
const LENGTHS_V6: [u8; 9] = [0, 1, 32, 48, 64, 96, 127, 128, 128];
/// Users and groups, the largest possible id among them.
const IDS: [u32; 8] = [1337, 1337, 1337, 1000, 0, 3, 4, u32::MAX - 1];
/// Ports that policies name.
const PORTS: [u16; 13] = [
    53, 80, 443, 1000, 1001, 1002, 5000, 5001, 5003, 8080, 15008, 65535, 1,
];
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
pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

impl Generator {
    /// Generates a policy.
    pub(in crate::flows) fn policy(&mut self) -> RedirectConfig {
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

    /// Generates DNS capture, which is mostly on, because the other rules are the same with it.
    fn dns(&mut self) -> Dns {
        if self.once_in(3) {
            return Dns::default();
        }
        let mut servers = self.several(4, |generator| ip(generator.one(&RESOLVERS)));
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

    /// Generates a range. Host bits stay, because iptables get them too.
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
}

/// Whether DNS capture can exempt the mesh's own resolver, which runs with the proxy's ids: true if DNS capture is off,
/// or the policy has those ids.
pub(in crate::flows) fn has_resolver(config: &RedirectConfig) -> bool {
    let ids = [&config.proxy_uids, &config.proxy_gids];
    !config.dns.redirect || ids.iter().any(|ids| ids.as_slice().contains(&PROXY_ID))
}
