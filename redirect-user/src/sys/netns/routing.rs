//! The interfaces by which a network namespace's packets leave: interfaces, the main routing table,
//! and everything else that has an influence.

use std::fmt;

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::{
    Error, Handle, IpVersion,
    packet_route::{
        link::LinkAttribute,
        route::{
            RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteType,
        },
        rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
    },
};

/// `RT_TABLE_DEFAULT`, `RT_TABLE_MAIN` and `RT_TABLE_LOCAL` (include/uapi/linux/rtnetlink.h).
const RT_TABLE_DEFAULT: u8 = 253;
const RT_TABLE_MAIN: u8 = 254;
const RT_TABLE_LOCAL: u8 = 255;

/// The interfaces and routes of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// The interfaces of the namespace, in the kernel's order.
    pub interfaces: Vec<NetInterface>,
    /// The routes of the main table, sorted by prefix, with the preferred route of each prefix
    /// first.
    pub routes: Vec<Route>,
    /// Everything that makes a packet's interface depend on more than its destination.
    pub obstacles: Vec<Obstacle>,
}

/// An interface of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetInterface {
    /// The index of the interface in the namespace. It is unique while the interface exists.
    pub index: u32,
    /// The name of the interface, which can be changed.
    pub name: String,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The destinations of the route.
    pub net: IpNet,
    /// The metric: of several routes to one prefix, the one with the lowest metric is used.
    pub priority: u32,
    /// The indexes of the interfaces that the route leaves by. A multipath route has several, a
    /// route that refuses packets has none.
    pub interfaces: Vec<u32>,
}

/// A reason why a packet's interface depends on more than its destination.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// A routing rule: its priority, and 4 or 6.
    Rule(u32, u8),
    /// Routing rules that do not look up the tables local, main and default in this order: 4 or 6.
    Order(u8),
    /// A route for packets from some sources only.
    Source(IpNet),
    /// A route for packets of one type of service only.
    ServiceType(IpNet),
    /// A route whose interface netlink does not list.
    Nameless(IpNet),
    /// A route of the table `default`, which is looked up after `main`.
    DefaultTable(IpNet),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(priority, family) => {
                write!(f, "routing rule {priority} (`ip -{family} rule`)")
            }
            Self::Order(family) => write!(
                f,
                "routing rules that do not look up the tables local, main and default in this order (`ip -{family} rule`)"
            ),
            Self::Source(net) => write!(f, "the route to {net} for packets of some sources only"),
            Self::ServiceType(net) => {
                write!(f, "the route to {net} for one type of service only")
            }
            Self::Nameless(net) => write!(f, "the route to {net}, which names no interface"),
            Self::DefaultTable(net) => write!(f, "the route to {net} in the table default"),
        }
    }
}

impl Routing {
    /// Reads the interfaces and the routing rules.
    pub(super) async fn read(handle: &Handle) -> Result<Self> {
        let mut routing = Self::default();
        let mut links = handle.link().get().execute();
        while let Some(link) = links.try_next().await.context("list the interfaces")? {
            let index = link.header.index;
            let names = link.attributes.into_iter().filter_map(|attribute| {
                if let LinkAttribute::IfName(name) = attribute {
                    Some(NetInterface { index, name })
                } else {
                    None
                }
            });
            routing.interfaces.extend(names);
        }
        for (version, family) in [(IpVersion::V4, 4), (IpVersion::V6, 6)] {
            let mut rules = handle.rule().get(version).execute();
            let mut tables = Vec::new();
            loop {
                let rule = match rules.try_next().await {
                    Ok(Some(rule)) => rule,
                    Ok(None) => break,
                    // A kernel without IPv6, or without rules other than the usual ones, lists
                    // none.
                    Err(Error::NetlinkError(error))
                        if [-libc::EAFNOSUPPORT, -libc::EOPNOTSUPP].contains(&error.raw_code()) =>
                    {
                        break;
                    }
                    Err(error) => return Err(error).context("list the routing rules"),
                };
                if is_usual(&rule) {
                    tables.push(rule.header.table);
                } else {
                    let obstacle = Obstacle::Rule(priority(&rule), family);
                    routing.obstacles.push(obstacle);
                }
            }
            let usual = [RT_TABLE_LOCAL, RT_TABLE_MAIN, RT_TABLE_DEFAULT];
            let is_usual = tables.len() != 1 && usual.starts_with(&tables);
            if !is_usual {
                routing.obstacles.push(Obstacle::Order(family));
            }
        }
        Ok(routing)
    }

    /// Adds a route of any table.
    pub(super) fn add(&mut self, net: IpNet, route: &RouteMessage) {
        let header = &route.header;
        // A cached route for a single destination is not a route of the table.
        if header
            .flags
            .intersects(RouteFlags::Dead | RouteFlags::Cloned)
        {
            return;
        }
        if header.table == RT_TABLE_DEFAULT {
            self.obstacles.push(Obstacle::DefaultTable(net));
        }
        if header.table != RT_TABLE_MAIN {
            return;
        }
        if header.source_prefix_length != 0 {
            self.obstacles.push(Obstacle::Source(net));
        } else if header.tos != 0 {
            self.obstacles.push(Obstacle::ServiceType(net));
        }
        let leaves = header.kind == RouteType::Unicast;
        let interfaces = if leaves {
            interfaces(route)
        } else {
            Vec::new()
        };
        if leaves && interfaces.is_empty() {
            self.obstacles.push(Obstacle::Nameless(net));
        }
        let priority = route.attributes.iter().find_map(|attribute| {
            if let RouteAttribute::Priority(priority) = attribute {
                Some(*priority)
            } else {
                None
            }
        });
        self.routes.push(Route {
            net,
            priority: priority.unwrap_or(0),
            interfaces,
        });
    }
}

/// Whether a rule is one of the initial rules, which look up a table for every packet.
fn is_usual(rule: &RuleMessage) -> bool {
    let header = &rule.header;
    let of_table = |attribute: &RuleAttribute| {
        if let RuleAttribute::Table(table) = attribute {
            *table == u32::from(header.table)
        } else if let RuleAttribute::SuppressPrefixLen(length) = attribute {
            // Every prefix length: the kernel's value for "no limit".
            *length == u32::MAX
        } else {
            matches!(
                attribute,
                RuleAttribute::Priority(_) | RuleAttribute::Protocol(_)
            )
        }
    };
    header.action == RuleAction::ToTable
        && !header.flags.contains(RuleFlags::Invert)
        && (header.dst_len, header.src_len, header.tos) == (0, 0, 0)
        && rule.attributes.iter().all(of_table)
}

/// A rule's priority. The first rule has none written.
fn priority(rule: &RuleMessage) -> u32 {
    let written = rule.attributes.iter().find_map(|attribute| {
        if let RuleAttribute::Priority(priority) = attribute {
            Some(*priority)
        } else {
            None
        }
    });
    written.unwrap_or(0)
}

/// The interfaces that a route leaves by.
fn interfaces(route: &RouteMessage) -> Vec<u32> {
    let is_alive = |hop: &&RouteNextHop| !hop.flags.contains(RouteNextHopFlags::Dead);
    let mut found: Vec<u32> = Vec::new();
    for attribute in &route.attributes {
        if let RouteAttribute::Oif(index) = attribute {
            found.push(*index);
        } else if let RouteAttribute::MultiPath(hops) = attribute {
            found.extend(hops.iter().filter(is_alive).map(|hop| hop.interface_index));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}
