//! Addresses and routes of the current thread's network namespace, by netlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        address::AddressAttribute,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
    },
};

use super::{address::LocalAddress, routing::Routing};

/// `RT_TABLE_LOCAL` (include/uapi/linux/rtnetlink.h).
const RT_TABLE_LOCAL: u8 = 255;

/// The addresses and routes of a namespace, as netlink lists them.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The interfaces' addresses in the kernel's order, IPv4 before IPv6.
    pub(super) addresses: Vec<IpAddr>,
    /// Single addresses that are destinations of local routes, without loopback, in order.
    pub(super) locals: Vec<LocalAddress>,
    /// The other destinations of local routes, without loopback, in order.
    pub(super) ranges: Vec<IpNet>,
    /// Destinations of broadcast routes, in order.
    pub(super) broadcast: Vec<IpAddr>,
    /// The interfaces and the routes of the main table.
    pub(super) routing: Routing,
}

impl Listing {
    /// Reads the listing from the kernel.
    pub(super) fn read() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("start a runtime")?;
        runtime.block_on(async {
            let (connection, handle, _) =
                rtnetlink::new_connection().context("open a netlink socket")?;
            let task = tokio::spawn(connection);
            let mut listing = Self {
                addresses: addresses(&handle).await?,
                routing: Routing::read(&handle).await?,
                ..Self::default()
            };
            listing.add_routes(&handle).await?;
            task.abort();
            Ok(listing)
        })
    }

    /// Adds the routes of `ip route show table all`, of both families.
    async fn add_routes(&mut self, handle: &Handle) -> Result<()> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessageBuilder::<IpAddr>::new().build();
            request.header.address_family = family;
            let mut answers = handle.route().get(request).execute();
            while let Some(route) = answers.try_next().await.context("list the routes")? {
                self.add_route(&route);
            }
        }
        self.locals.sort_unstable();
        self.locals.dedup();
        self.ranges.sort_unstable();
        self.ranges.dedup();
        self.broadcast.sort_unstable();
        self.broadcast.dedup();
        self.routing.routes.sort_unstable();
        self.routing.obstacles.sort_unstable();
        Ok(())
    }

    fn add_route(&mut self, route: &RouteMessage) {
        if route.header.table != RT_TABLE_LOCAL {
            if let Some(net) = destination(route) {
                self.routing.add(net.trunc(), route);
            }
            return;
        }
        let Some(net) = destination(route).filter(|net| !net.addr().is_loopback()) else {
            return;
        };
        if route.header.kind == RouteType::Local && net.prefix_len() == net.max_prefix_len() {
            let addr = net.addr();
            self.locals.push(LocalAddress {
                addr,
                is_source: preferred_source(route).is_none_or(|source| source == addr),
            });
        } else if route.header.kind == RouteType::Local {
            self.ranges.push(net.trunc());
        } else if route.header.kind == RouteType::Broadcast {
            self.broadcast.push(net.addr());
        }
    }
}

/// The addresses of `ip address show`, without prefix lengths.
async fn addresses(handle: &Handle) -> Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    let mut answers = handle.address().get().execute();
    while let Some(message) = answers.try_next().await.context("list the addresses")? {
        // With a peer, `Address` is the peer's; without a peer, IPv6 has no `Local`.
        let (mut local, mut plain) = (None, None);
        for attribute in &message.attributes {
            if let AddressAttribute::Local(addr) = attribute {
                local = Some(*addr);
            } else if let AddressAttribute::Address(addr) = attribute {
                plain = Some(*addr);
            }
        }
        found.extend(local.or(plain));
    }
    Ok(found)
}

/// A route's destination. A default route has none written, which means every destination.
fn destination(route: &RouteMessage) -> Option<IpNet> {
    let length = route.header.destination_prefix_length;
    let written = route.attributes.iter().find_map(|attribute| {
        let RouteAttribute::Destination(address) = attribute else {
            return None;
        };
        ip(address)
    });
    let everywhere = if route.header.address_family == AddressFamily::Inet {
        IpAddr::from(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::from(Ipv6Addr::UNSPECIFIED)
    };
    IpNet::new(written.unwrap_or(everywhere), length).ok()
}

/// The source address that a route gives to connections that have none yet.
fn preferred_source(route: &RouteMessage) -> Option<IpAddr> {
    route.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::PrefSource(address) = attribute {
            ip(address)
        } else {
            None
        }
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    if let RouteAddress::Inet(v4) = address {
        Some((*v4).into())
    } else if let RouteAddress::Inet6(v6) = address {
        Some((*v6).into())
    } else {
        None
    }
}
