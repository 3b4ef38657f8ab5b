//! The policies and the identities that the flows are made under.

use redirect_testkit::{APP_ID, PROXY_ID};
use redirect_user::config::{
    Dns, Inbound, InboundPorts, Include, PortRange, ProxyIds, RedirectConfig,
};

use crate::{
    harness::{FAR_V4, FAR_V6},
    inbound::every_port,
};

/// The policy that a flow is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// Redirects everything except one port, two ranges and one group.
    Any,
    /// Redirects only one port and some ranges, one of them loopback.
    List,
    /// The same as [`Self::List`], with four users and four groups of the proxy.
    Several,
    /// Redirects everything except two ranges, and captures queries to resolvers in them.
    Dns,
    /// Redirects nothing outbound, and every port except one inbound.
    InAny,
    /// Redirects nothing outbound, and one port inbound.
    InList,
}

impl Policy {
    pub(super) fn config(self) -> RedirectConfig {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().expect(text)).collect();
        match self {
            Self::Any => RedirectConfig {
                include: Include::Any,
                exclude: nets(&["36.152.44.0/24", "2001:db8:1::/48"]),
                exclude_ports: vec![PortRange::single(5555)],
                owner_groups_exclude: vec![OTHERS.1],
                ..RedirectConfig::default()
            },
            Self::List => RedirectConfig {
                include: Include::Cidrs(nets(&["127.0.0.0/8", "203.0.113.0/24", "2001:db8::/48"])),
                include_ports: vec![PortRange::single(443)],
                ..RedirectConfig::default()
            },
            Self::Dns => RedirectConfig {
                include: Include::Any,
                exclude: nets(&["36.152.44.0/24", "2001:db8:1::/48"]),
                dns: Dns {
                    redirect: true,
                    capture_all: false,
                    servers: [FAR_V4, FAR_V6]
                        .map(|text| text.parse().expect(text))
                        .to_vec(),
                },
                ..RedirectConfig::default()
            },
            Self::Several => RedirectConfig {
                proxy_uids: ProxyIds::new(SEVERAL.to_vec()).expect("four"),
                proxy_gids: ProxyIds::new(SEVERAL.to_vec()).expect("four"),
                ..Self::List.config()
            },
            Self::InAny => every_port(),
            Self::InList => RedirectConfig {
                inbound: Inbound {
                    include_ports: InboundPorts::List(vec![PortRange::single(8080)]),
                    ..Inbound::default()
                },
                ..RedirectConfig::default()
            },
        }
    }
}

/// The users, or groups, of a proxy with several.
pub(super) const SEVERAL: [u32; 4] = [PROXY_ID, 2002, 2003, 2004];

pub(super) type Ids = (u32, u32);
pub(super) const APP: Ids = (APP_ID, APP_ID);
pub(super) const PROXY: Ids = (PROXY_ID, PROXY_ID);
/// Another user in the proxy's group.
pub(super) const GROUP: Ids = (APP_ID, PROXY_ID);

/// No identity in the pod: the world makes the connection.
pub(super) const WORLD: Ids = (u32::MAX, u32::MAX);

/// A user in a group that is not redirected.
pub(super) const OTHERS: Ids = (APP_ID, 1500);
