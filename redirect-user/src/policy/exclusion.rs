//! The destinations that leave by excluded interfaces, as ranges.

use ipnet::{IpNet, Ipv6Net};
use redirect_common::abi::{INTERFACE_NAME, MAX_INTERFACES, PolicyRow};
use thiserror::Error;

use crate::{
    config::Interface,
    sys::netns::{NetInterface, Route, Routing},
};

/// The reason why the destination alone does not determine whether a connection leaves by an
/// excluded interface.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "exclude interfaces (-c): in the pod's network namespace {why}: change that, or exclude the ranges behind the interfaces with -x instead"
)]
pub struct Undecidable {
    why: String,
}

/// Prefixes, each with whether connections to it leave by an excluded interface. The longest prefix
/// that contains a destination decides; a destination in none of them leaves by another interface.
type ExitRoutes = Vec<(IpNet, bool)>;

/// The excluded interfaces of a pod in its network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclusion {
    /// The indexes of the interfaces, in order; an interface that does not exist has none.
    pub(super) indexes: Vec<u32>,
    /// The destinations that leave by the interfaces.
    pub(super) routes: ExitRoutes,
}

impl Exclusion {
    /// Finds the interfaces that match these names, and the destinations that leave by them.
    pub fn new(names: &[Interface], routing: &Routing) -> Result<Self, Undecidable> {
        if names.is_empty() {
            return Ok(Self::default());
        }
        let is_excluded =
            |interface: &&NetInterface| names.iter().any(|name| name.matches(&interface.name));
        let excluded = routing.interfaces.iter().filter(is_excluded);
        let mut indexes: Vec<_> = excluded.map(|interface| interface.index).collect();
        indexes.sort_unstable();
        if indexes.len() > MAX_INTERFACES {
            return Err(Undecidable {
                why: format!(
                    "{} interfaces match the names, and there is room for {MAX_INTERFACES}",
                    indexes.len()
                ),
            });
        }
        if let Some(obstacle) = routing.obstacles.first() {
            return Err(Undecidable {
                why: format!("the interface depends on more than the destination: {obstacle}"),
            });
        }
        Ok(Self {
            routes: routes(&indexes, &routing.routes)?,
            indexes,
        })
    }

    /// The prefixes at which the answer changes whether a connection leaves by an excluded
    /// interface.
    pub fn edges(&self) -> impl Iterator<Item = IpNet> {
        self.routes.iter().map(|(net, _)| *net)
    }

    /// The indexes in the form of a row.
    pub(super) fn to_row(&self) -> [u32; MAX_INTERFACES] {
        let mut row = [PolicyRow::NO_INTERFACE; MAX_INTERFACES];
        for (slot, index) in row.iter_mut().zip(&self.indexes) {
            *slot = *index;
        }
        row
    }
}

/// The names in the form of a row.
pub(super) fn names_to_row(names: &[Interface]) -> [[u8; INTERFACE_NAME]; MAX_INTERFACES] {
    let mut row = [[0; INTERFACE_NAME]; MAX_INTERFACES];
    for (slot, name) in row.iter_mut().zip(names) {
        for (byte, letter) in slot.iter_mut().zip(name.0.bytes()) {
            *byte = letter;
        }
    }
    row
}

/// The names that a row contains.
pub(super) fn names_of_row(row: &[[u8; INTERFACE_NAME]; MAX_INTERFACES]) -> Vec<Interface> {
    let names = row.iter().take_while(|name| name.first() != Some(&0));
    names
        .map(|name| {
            let letters: Vec<u8> = name.iter().copied().take_while(|byte| *byte != 0).collect();
            Interface(String::from_utf8_lossy(&letters).into_owned())
        })
        .collect()
}

/// The prefixes at which the answer changes whether an excluded interface is taken, beginning with
/// the widest. The routes in `all` must be sorted.
fn routes(excluded: &[u32], all: &[Route]) -> Result<ExitRoutes, Undecidable> {
    let mut changes = Vec::new();
    let mut containing = Vec::<(IpNet, bool)>::new();
    for of_prefix in all.chunk_by(|a, b| a.net == b.net) {
        let Some(preferred) = of_prefix.first() else {
            continue;
        };
        let net = preferred.net;
        let equal = of_prefix
            .iter()
            .filter(|route| route.priority == preferred.priority);
        let mut ways = equal.flat_map(|route| &route.interfaces);
        let is_excluded = |index: &u32| excluded.contains(index);
        let first = ways.next().is_some_and(is_excluded);
        let is_mixed = !ways.all(|index| is_excluded(index) == first);
        if is_mixed && !is_link_local(&net) {
            return Err(Undecidable {
                why: format!(
                    "the route to {net} leaves by several interfaces, of which only some are excluded"
                ),
            });
        }
        while containing
            .last()
            .is_some_and(|(outer, _)| !outer.contains(&net))
        {
            containing.pop();
        }
        // A link-local destination names its interface in the call, where no hook sees it.
        let leaves = first && !is_mixed;
        let outer = containing.last().is_some_and(|(_, leaves)| *leaves);
        if leaves != outer {
            changes.push((net, leaves));
        }
        containing.push((net, leaves));
    }
    Ok(changes)
}

fn is_link_local(net: &IpNet) -> bool {
    const LINK_LOCAL: Ipv6Net =
        Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
    IpNet::V6(LINK_LOCAL).contains(net)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns::Obstacle;

    const ETH0: u32 = 2;
    const NET1: u32 = 3;

    fn route(net: &str, priority: u32, interfaces: &[u32]) -> Route {
        Route {
            net: net.parse().expect(net),
            priority,
            interfaces: interfaces.to_vec(),
        }
    }

    fn routing(mut routes: Vec<Route>) -> Routing {
        routes.sort_unstable();
        let interface = |index, name: &str| NetInterface {
            index,
            name: name.to_owned(),
        };
        Routing {
            interfaces: vec![
                interface(1, "lo"),
                interface(ETH0, "eth0"),
                interface(NET1, "net1"),
            ],
            routes,
            obstacles: Vec::new(),
        }
    }

    fn excluded(name: &str, routes: Vec<Route>) -> Result<Vec<String>, String> {
        let names = [Interface(name.to_owned())];
        let found = Exclusion::new(&names, &routing(routes)).map_err(|error| error.to_string())?;
        let text =
            |(net, leaves): (IpNet, bool)| format!("{}{net}", if leaves { "" } else { "not " });
        Ok(found.routes.into_iter().map(text).collect())
    }

    #[test]
    fn the_longest_route_decides_and_of_equal_ones_the_lowest_metric() {
        let routes = || {
            vec![
                route("0.0.0.0/0", 100, &[ETH0]),
                route("0.0.0.0/0", 200, &[NET1]),
                route("10.0.0.0/8", 0, &[NET1]),
                route("10.1.0.0/16", 0, &[ETH0]),
                route("10.1.2.0/24", 0, &[ETH0]),
                route("10.1.2.3/32", 0, &[NET1]),
                route("10.9.0.0/16", 0, &[]),
                route("::/0", 1024, &[NET1]),
            ]
        };
        assert_eq!(
            excluded("net1", routes()).expect("ranges"),
            [
                "10.0.0.0/8",
                "not 10.1.0.0/16",
                "10.1.2.3/32",
                "not 10.9.0.0/16",
                "::/0"
            ]
        );
        assert_eq!(
            excluded("eth+", routes()).expect("ranges"),
            [
                "0.0.0.0/0",
                "not 10.0.0.0/8",
                "10.1.0.0/16",
                "not 10.1.2.3/32"
            ]
        );
        assert_eq!(excluded("later0", routes()).expect("ranges"), [""; 0]);
    }

    #[test]
    fn a_route_over_both_kinds_of_interfaces_is_refused() {
        let both = || vec![route("10.0.0.0/8", 0, &[ETH0, NET1])];
        for name in ["eth0", "net1"] {
            let error = excluded(name, both()).expect_err("mixed");
            assert!(error.contains("10.0.0.0/8 leaves by several"), "{error}");
        }
        assert_eq!(excluded("+", both()).expect("both"), ["10.0.0.0/8"]);
        let two = vec![
            route("fd00::/64", 256, &[ETH0]),
            route("fd00::/64", 256, &[NET1]),
        ];
        excluded("net1", two).expect_err("of one metric");
        let local = || {
            vec![
                route("fe80::/64", 256, &[ETH0]),
                route("fe80::/64", 256, &[NET1]),
            ]
        };
        assert_eq!(excluded("net1", local()).expect("link-local"), [""; 0]);
        assert_eq!(excluded("+", local()).expect("link-local"), ["fe80::/64"]);
    }

    #[test]
    fn routing_by_more_than_the_destination_is_refused_by_name() {
        let mut routing = routing(Vec::new());
        routing.obstacles.push(Obstacle::Rule(100, 4));
        let names = [Interface("net1".to_owned())];
        let error = Exclusion::new(&names, &routing)
            .expect_err("a rule")
            .to_string();
        assert!(error.contains("routing rule 100 (`ip -4 rule`)"), "{error}");
        Exclusion::new(&[], &routing).expect("no interface is excluded");
    }

    #[test]
    fn more_interfaces_than_there_is_room_for_are_refused() {
        let mut routing = routing(Vec::new());
        routing
            .interfaces
            .extend((10..16).map(|index| NetInterface {
                index,
                name: format!("veth{index}"),
            }));
        let excluded = |name: &str| Exclusion::new(&[Interface(name.to_owned())], &routing);
        assert_eq!(excluded("veth+").expect("six").indexes.len(), 6);
        let error = excluded("+").expect_err("nine").to_string();
        assert!(error.contains("9 interfaces match"), "{error}");
    }

    #[test]
    fn names_survive_the_row() {
        let names =
            ["eth0", "fifteen-letters", "net+", "net+"].map(|name| Interface(name.to_owned()));
        assert_eq!(names_of_row(&names_to_row(&names)), names);
        assert_eq!(names_of_row(&names_to_row(&[])), []);
    }
}
