//! The connections whose decisions are compared.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use redirect_user::policy::Undecidable;

use super::{Direction, Probe, Site, dimension::Dimension};
use crate::netfilter::{Match, Ruleset, Target, Via};

/// Every probe that a rule of either side gives reason for, each once, plain ones first.
pub fn probes(rules: &[&Ruleset], site: &Site) -> Result<Vec<Probe>, Undecidable> {
    let common = CommonValues::of(rules, site);
    let mut probes = Probes::default();
    for tcp in [true, false] {
        common.add_probes(&Dimension::default(), tcp, site, &mut probes);
    }
    for rule in rules.iter().flat_map(|rules| rules.rules()) {
        let dimension = Dimension::of(rule).possible(site);
        for tcp in [true, false] {
            common.add_probes(&dimension, tcp, site, &mut probes);
        }
    }
    // The interface by which a connection leaves changes at edges that no rule shows.
    let edges = Dimension::of_ranges(site.interface_edges(rules)?.into_iter()).possible(site);
    if !edges.to.is_empty() {
        for tcp in [true, false] {
            common.add_probes(&edges, tcp, site, &mut probes);
        }
    }
    common.add_inbound_probes(site, &mut probes);
    Ok(probes.list)
}

/// Remote addresses that rules have no reason to name (RFC 5737, RFC 3849).
const REMOTE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 77)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1)),
];

/// An IPv4 address dialled from an IPv6 socket.
const MAPPED: IpAddr = IpAddr::V6(Ipv4Addr::new(198, 51, 100, 77).to_ipv6_mapped());

/// Loopback addresses that rules treat differently, and the zero address, which stands for one.
const LOOPBACK: [IpAddr; 7] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)),
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6)),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];

/// The port of DNS queries, which have rules of their own.
const DNS: u16 = 53;

#[derive(Default)]
struct Probes {
    list: Vec<Probe>,
    known: HashSet<Probe>,
}

impl Probes {
    fn add(&mut self, probe: Probe) {
        if self.known.insert(probe.clone()) {
            self.list.push(probe);
        }
    }
}

/// The values that a probe takes where its rule names none: one of each kind of rule, plain ones first.
struct CommonValues {
    to: Vec<IpAddr>,
    ports: Vec<u16>,
    owners: Vec<(u32, u32)>,
    /// The application's owner, and the proxy's user.
    few_owners: Vec<(u32, u32)>,
    /// All values that rules name.
    all: Dimension,
}

impl CommonValues {
    fn of(rules: &[&Ruleset], site: &Site) -> Self {
        let mut all = Dimension::default();
        let mut kinds = BTreeMap::new();
        for rule in rules.iter().flat_map(|rules| rules.rules()) {
            let dimension = Dimension::of(rule);
            all.ports.extend(&dimension.ports);
            all.uids.extend(&dimension.uids);
            all.gids.extend(&dimension.gids);
            all.from.extend(&dimension.from);
            all.interfaces.extend(dimension.interfaces);
            for test in &rule.tests {
                let about = std::mem::discriminant(&test.matches);
                let is_v6 =
                    matches!(&test.matches, Match::Destination(net) if net.addr().is_ipv6());
                let kind = (target_kind(&rule.target), test.negated, is_v6);
                let same = kinds.entry(kind).or_insert_with(Vec::new);
                if same.iter().all(|(other, _)| *other != about) {
                    same.push((about, test.matches.clone()));
                }
            }
        }
        all.interfaces = site.interfaces_matching(&all.interfaces);
        if !all.interfaces.is_empty() {
            all.interfaces
                .extend(site.interface_besides(&all.interfaces));
        }
        let stranger = (1000..u32::MAX).find(|id| !all.uids.contains(id) && !all.gids.contains(id));
        let stranger = stranger.unwrap_or(u32::MAX);
        let plain = (80..u16::MAX).find(|port| !all.ports.contains(port));
        let mut common = Self {
            to: REMOTE
                .into_iter()
                .chain([MAPPED])
                .chain(LOOPBACK)
                .chain(site.local_addresses())
                .collect(),
            ports: plain.into_iter().chain([DNS]).collect(),
            owners: vec![(stranger, stranger)],
            few_owners: vec![(stranger, stranger)],
            all,
        };
        for (_, matches) in kinds.into_values().flatten() {
            common.add_value_of(&matches, stranger);
        }
        common.to.retain(|addr| !site.is_refused(*addr));
        common.owners.dedup();
        common
    }

    /// Adds one value that fulfils a condition.
    fn add_value_of(&mut self, matches: &Match, stranger: u32) {
        match matches {
            Match::Destination(net) => {
                self.to.push(net.addr());
            }
            Match::DestinationPort(ports) => {
                self.ports.extend(ports.iter().map(|range| range.first));
            }
            Match::Uid(ids) => {
                self.owners.push((ids.first, stranger));
                self.few_owners.truncate(1);
                self.few_owners.push((ids.first, stranger));
            }
            Match::Gid(ids) => self.owners.push((stranger, ids.first)),
            Match::Source(_)
            | Match::Protocol(_)
            | Match::In(_)
            | Match::Out(_)
            | Match::SourcePort(_)
            | Match::State(_)
            | Match::Mark(_)
            | Match::Connmark(_)
            | Match::Unknown(_) => {}
        }
    }

    /// Adds a probe for every combination of the values of a dimension with the common values.
    fn add_probes(&self, dimension: &Dimension, tcp: bool, site: &Site, probes: &mut Probes) {
        let to = named_or_common(&dimension.to, &self.to);
        let ports = named_or_common(&dimension.ports, &self.ports);
        let owners = self.owners_of(dimension);
        let interfaces = if dimension.interfaces.is_empty() {
            &self.all.interfaces
        } else {
            &dimension.interfaces
        };
        let named = interfaces.iter().cloned().map(Via::Named);
        let vias: Vec<_> = [Via::Unnamed].into_iter().chain(named).collect();
        for addr in &to {
            let is_lo = site.is_local(*addr) || addr.is_unspecified();
            for from in sources(*addr, dimension, is_lo) {
                for port in &ports {
                    for owner in &owners {
                        for via in vias.iter().take(if is_lo { 1 } else { vias.len() }) {
                            probes.add(Probe {
                                direction: Direction::Outbound,
                                tcp,
                                to: *addr,
                                port: *port,
                                from,
                                owner: Some(*owner),
                                via: via.clone(),
                            });
                        }
                    }
                }
            }
        }
    }

    fn owners_of(&self, dimension: &Dimension) -> Vec<(u32, u32)> {
        if dimension.is_range() {
            return self.few_owners.clone();
        }
        if dimension.uids.is_empty() && dimension.gids.is_empty() {
            return self.owners.clone();
        }
        let both = |owner: &(u32, u32)| {
            let uids = dimension.uids.iter().map(|uid| (*uid, owner.1));
            let gids = dimension.gids.iter().map(|gid| (owner.0, *gid));
            uids.chain(gids).collect::<Vec<_>>()
        };
        let owners: BTreeSet<_> = self.owners.iter().flat_map(both).collect();
        owners.into_iter().collect()
    }

    /// Adds connections from outside to the pod's addresses, at every port that rules name.
    fn add_inbound_probes(&self, site: &Site, probes: &mut Probes) {
        let is_reached = |addr: &IpAddr| !addr.is_loopback() && *addr != Site::passthrough(false);
        let vias = self.all.interfaces.iter().cloned().map(Via::Named);
        let vias: Vec<_> = [Via::Unnamed].into_iter().chain(vias).collect();
        for to in site.local_addresses().filter(is_reached) {
            let from = REMOTE
                .into_iter()
                .find(|addr| addr.is_ipv4() == to.is_ipv4());
            for port in self.all.ports.iter().chain(&self.ports) {
                for tcp in [true, false] {
                    for via in &vias {
                        probes.add(Probe {
                            direction: Direction::Inbound,
                            tcp,
                            to,
                            port: *port,
                            from,
                            owner: None,
                            via: via.clone(),
                        });
                    }
                }
            }
        }
    }
}

/// The kind of a target. Redirects to different ports and jumps to different chains are different kinds.
fn target_kind(target: &Target) -> String {
    match target {
        Target::Jump(name) | Target::Goto(name) => name.clone(),
        Target::Redirect(port) => format!("{port:?}"),
        Target::Return => "RETURN".to_owned(),
        Target::Accept => "ACCEPT".to_owned(),
        Target::Drop => "DROP".to_owned(),
        Target::Tproxy(..)
        | Target::Mark(_)
        | Target::Connmark(_)
        | Target::Aside(_)
        | Target::Unknown(_) => String::new(),
    }
}

/// The named values, or the common ones if none is named.
fn named_or_common<T: Copy>(named: &BTreeSet<T>, common: &[T]) -> Vec<T> {
    if named.is_empty() {
        common.to_vec()
    } else {
        named.iter().copied().collect()
    }
}

/// The addresses that a socket is bound to before it dials `to`: none, and for a local `to` the one that the proxy
/// binds and those that a rule names.
fn sources(to: IpAddr, dimension: &Dimension, is_lo: bool) -> Vec<Option<IpAddr>> {
    let v4 = to.to_canonical().is_ipv4();
    let named = dimension.from.iter().copied();
    let bound = named.chain([Site::passthrough(v4)]);
    let bound = bound.filter(|from| is_lo && from.is_ipv4() == v4);
    let mut sources: Vec<_> = [None].into_iter().chain(bound.map(Some)).collect();
    sources.dedup();
    sources
}
