//! The pinned maps, typed.

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::ErrorKind,
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{
    Array, HashMap, LpmTrie, Map, MapData, MapError, MapInfo, MapType, PerCpuHashMap, PerCpuValues,
    lpm_trie::Key,
};
use ipnet::IpNet;
use redirect_common::{
    abi::{
        Cidr4Data, Cidr6Data, CidrFlags, Destination, DifferenceKey, Fingerprint, FlowKey,
        GroupFlags, GroupKey, Hits, IdKey, IdLine, LocalFlags, LocalKey, MapName, Meta, OrigDst,
        POLICY_BITS, PolicyId, PolicyRow, PortFlags, PortKey, Serial, StandInKey,
    },
    net::BeAddr,
};

use super::{InboundMaps, Pins};
use crate::sys::{
    cgroup::CgroupId,
    userns::{Extent, IdMap, IdMaps},
};

/// Every map that user space reads or writes.
pub struct Maps {
    // Cgroup storage answers the same system calls as a hash; aya's own type for it knows only
    // the older key that has the attach type in it.
    pods: HashMap<MapData, CgroupId, PolicyRow>,
    hits: PerCpuHashMap<MapData, CgroupId, Hits>,
    locals: HashMap<MapData, LocalKey, LocalFlags>,
    cidrs4: LpmTrie<MapData, Cidr4Data, CidrFlags>,
    cidrs6: LpmTrie<MapData, Cidr6Data, CidrFlags>,
    ports: HashMap<MapData, PortKey, PortFlags>,
    groups: HashMap<MapData, GroupKey, GroupFlags>,
    stand_ins: HashMap<MapData, StandInKey, Destination>,
    stand_in_counts: HashMap<MapData, u64, u64>,
    flows: HashMap<MapData, FlowKey, OrigDst>,
    rehearsed: HashMap<MapData, FlowKey, OrigDst>,
    differences: HashMap<MapData, DifferenceKey, u64>,
    ids: HashMap<MapData, IdKey, IdLine>,
    policies: HashMap<MapData, Fingerprint, PolicyId>,
    inbound: InboundMaps,
    meta: Array<MapData, Meta>,
}

impl fmt::Debug for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not all of aya's map types can be shown, and none has anything to show.
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

/// Opens a pin, checking that it is the map it should be, with keys `K` and values `V`.
pub(super) fn open<K, V>(path: &Path, kind: MapType) -> Result<MapData> {
    let foreign = || {
        format!(
            "open map \"{}\": it is not one of this version's: remove all with `redirectctl uninstall`, then attach anew",
            path.display()
        )
    };
    let info = MapInfo::from_pin(path).map_err(|error| {
        // Whoever cannot open it at all has nothing to remove.
        let context = if is_forbidden(&error) {
            format!("open map \"{}\"", path.display())
        } else {
            foreign()
        };
        anyhow!(error).context(context)
    })?;
    let found = (
        info.map_type().with_context(foreign)?,
        usize::try_from(info.key_size()).with_context(foreign)?,
        usize::try_from(info.value_size()).with_context(foreign)?,
    );
    let expected = (kind, size_of::<K>(), size_of::<V>());
    if found != expected {
        let text = |(kind, key, value): (MapType, usize, usize)| {
            format!("{kind:?} with keys of {key} and values of {value} bytes")
        };
        return Err(anyhow!(
            "expected {}, found {}",
            text(expected),
            text(found)
        ))
        .with_context(foreign);
    }
    MapData::from_pin(path).with_context(foreign)
}

/// Whether it is not the pin that is wrong, but whoever opens it, or its file system.
fn is_forbidden(error: &MapError) -> bool {
    let MapError::SyscallError(error) = error else {
        return false;
    };
    matches!(
        error.io_error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
    )
}

/// `KeyNotFound` is an answer, not an error.
pub(super) fn optional<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removing what is not there is done.
pub(super) fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {
            Ok(())
        }
        other => other,
    }
}

/// The counters of all CPUs together.
pub(super) fn sum(per_cpu: Option<PerCpuValues<Hits>>) -> Hits {
    per_cpu.map_or(Hits::ZERO, |values| {
        values.iter().fold(Hits::ZERO, Hits::plus)
    })
}

/// Counters at zero, for every CPU.
pub(super) fn no_hits() -> Result<PerCpuValues<Hits>> {
    let cpus = aya::util::nr_cpus().map_err(|(path, error)| anyhow!(error).context(path))?;
    PerCpuValues::try_from(vec![Hits::ZERO; cpus]).context("count the CPUs")
}

/// The trie key of a range; a range of the other family has none.
fn key4(policy: PolicyId, net: &IpNet) -> Option<Key<Cidr4Data>> {
    let IpNet::V4(net) = net else { return None };
    let length = POLICY_BITS.checked_add(u32::from(net.prefix_len()))?;
    Some(Key::new(
        length,
        [policy.0, BeAddr::from(net.network()).word4()],
    ))
}

fn key6(policy: PolicyId, net: &IpNet) -> Option<Key<Cidr6Data>> {
    let IpNet::V6(net) = net else { return None };
    let length = POLICY_BITS.checked_add(u32::from(net.prefix_len()))?;
    let [a, b, c, d] = BeAddr::from(net.network()).words();
    Some(Key::new(length, [policy.0, a, b, c, d]))
}

/// The policy and range of a trie key. The family is the map's: in the IPv6 one an IPv4-mapped
/// range is an IPv6 range.
fn range(prefix_len: u32, policy: u32, addr: IpAddr) -> Option<(PolicyId, IpNet)> {
    let length = u8::try_from(prefix_len.checked_sub(POLICY_BITS)?).ok()?;
    Some((PolicyId(policy), IpNet::new(addr, length).ok()?))
}

impl Maps {
    /// Opens every map.
    pub fn open(pins: &Pins) -> Result<Self> {
        let pin = |map| pins.map(map);
        let pods = open::<CgroupId, PolicyRow>(&pin(MapName::Pods), MapType::CgroupStorage)?;
        let hits = open::<CgroupId, Hits>(&pin(MapName::RuleHits), MapType::PerCpuCgroupStorage)?;
        let locals = open::<LocalKey, LocalFlags>(&pin(MapName::Locals), MapType::Hash)?;
        let cidrs4 = open::<Key<Cidr4Data>, CidrFlags>(&pin(MapName::Cidrs4), MapType::LpmTrie)?;
        let cidrs6 = open::<Key<Cidr6Data>, CidrFlags>(&pin(MapName::Cidrs6), MapType::LpmTrie)?;
        let ports = open::<PortKey, PortFlags>(&pin(MapName::Ports), MapType::Hash)?;
        let groups = open::<GroupKey, GroupFlags>(&pin(MapName::Groups), MapType::Hash)?;
        let stand_ins = open::<StandInKey, Destination>(&pin(MapName::StandIns), MapType::Hash)?;
        let stand_in_counts = open::<u64, u64>(&pin(MapName::StandInCounts), MapType::Hash)?;
        let flows = open::<FlowKey, OrigDst>(&pin(MapName::Flows), MapType::Hash)?;
        let rehearsed = open::<FlowKey, OrigDst>(&pin(MapName::Rehearsed), MapType::LruHash)?;
        let differences = open::<DifferenceKey, u64>(&pin(MapName::Differences), MapType::LruHash)?;
        let ids = open::<IdKey, IdLine>(&pins.ids(), MapType::Hash)?;
        let policies = open::<Fingerprint, PolicyId>(&pins.policies(), MapType::Hash)?;
        let meta = open::<u32, Meta>(&pins.meta(), MapType::Array)?;
        Ok(Self {
            pods: HashMap::try_from(Map::HashMap(pods))?,
            hits: PerCpuHashMap::try_from(Map::PerCpuHashMap(hits))?,
            locals: HashMap::try_from(Map::HashMap(locals))?,
            cidrs4: LpmTrie::try_from(Map::LpmTrie(cidrs4))?,
            cidrs6: LpmTrie::try_from(Map::LpmTrie(cidrs6))?,
            ports: HashMap::try_from(Map::HashMap(ports))?,
            groups: HashMap::try_from(Map::HashMap(groups))?,
            stand_ins: HashMap::try_from(Map::HashMap(stand_ins))?,
            stand_in_counts: HashMap::try_from(Map::HashMap(stand_in_counts))?,
            flows: HashMap::try_from(Map::HashMap(flows))?,
            rehearsed: HashMap::try_from(Map::LruHashMap(rehearsed))?,
            differences: HashMap::try_from(Map::LruHashMap(differences))?,
            ids: HashMap::try_from(Map::HashMap(ids))?,
            policies: HashMap::try_from(Map::HashMap(policies))?,
            inbound: InboundMaps::open(pins)?,
            meta: Array::try_from(Map::Array(meta))?,
        })
    }

    /// A pod's row, if its cgroup has ever been attached.
    pub fn row(&self, pod: CgroupId) -> Result<Option<PolicyRow>> {
        optional(self.pods.get(&pod, 0)).context("read the pod's row")
    }

    /// Replaces a pod's row: the switch, atomic for every connection.
    pub fn set_row(&mut self, pod: CgroupId, row: &PolicyRow) -> Result<()> {
        self.pods.insert(pod, row, 0).context("write the pod's row")
    }

    /// Takes a pod's policy away: nothing is redirected any more, and what has been is still known to the programs
    /// that are asked.
    pub fn silence_row(&mut self, pod: CgroupId) -> Result<()> {
        let Some(row) = self.row(pod)? else {
            return Ok(());
        };
        let silent = PolicyRow {
            netns: row.netns,
            out_port: row.out_port,
            in_port: row.in_port,
            ..PolicyRow::default()
        };
        gone(self.pods.insert(pod, silent, 0)).context("silence the pod's row")
    }

    /// Clears a pod's row, if there is one: nothing is redirected any more.
    pub fn clear_row(&mut self, pod: CgroupId) -> Result<()> {
        gone(self.pods.insert(pod, PolicyRow::default(), 0)).context("clear the pod's row")
    }

    /// A pod's counters, over all CPUs, of both directions.
    pub fn hits(&self, pod: CgroupId) -> Result<Hits> {
        let per_cpu = optional(self.hits.get(&pod, 0)).context("read the pod's counters")?;
        Ok(sum(per_cpu).plus(&self.inbound.hits(pod)?))
    }

    /// Sets a pod's counters to zero.
    pub fn clear_hits(&mut self, pod: CgroupId) -> Result<()> {
        self.hits
            .insert(pod, no_hits()?, 0)
            .context("clear the pod's counters")
    }

    /// What there is of inbound redirection.
    pub const fn inbound(&self) -> &InboundMaps {
        &self.inbound
    }

    /// The same, to change it.
    pub const fn inbound_mut(&mut self) -> &mut InboundMaps {
        &mut self.inbound
    }

    /// The flags of an address under a policy: the kernel's own longest-prefix match.
    pub fn cidr(&self, policy: PolicyId, addr: BeAddr) -> Result<CidrFlags> {
        let net = IpNet::from(IpAddr::from(addr));
        let found = match (key4(policy, &net), key6(policy, &net)) {
            (Some(key), _) => optional(self.cidrs4.get(&key, 0)),
            (None, Some(key)) => optional(self.cidrs6.get(&key, 0)),
            (None, None) => Ok(None),
        };
        Ok(found
            .context("look up the destination's ranges")?
            .unwrap_or_default())
    }

    /// The flags of a port.
    pub fn port(&self, key: PortKey) -> Result<PortFlags> {
        Ok(optional(self.ports.get(&key, 0))
            .context("look up the destination's port")?
            .unwrap_or_default())
    }

    /// The flags of an owner group under a policy.
    pub fn group(&self, policy: PolicyId, gid: u32) -> Result<GroupFlags> {
        Ok(optional(self.groups.get(&GroupKey { policy, gid }, 0))
            .context("look up the owner's group")?
            .unwrap_or_default())
    }

    /// What an address is to a network namespace.
    pub fn local(&self, netns: u64, addr: BeAddr) -> Result<LocalFlags> {
        let key = LocalKey { netns, addr };
        Ok(optional(self.locals.get(&key, 0))
            .context("look up the destination's locality")?
            .unwrap_or_default())
    }

    /// Stores the entries of a policy under an id, whatever the id in the ports' keys.
    pub fn fill(
        &mut self,
        policy: PolicyId,
        cidrs: &[(IpNet, CidrFlags)],
        ports: &[(PortKey, PortFlags)],
        groups: &[u32],
    ) -> Result<()> {
        for (net, flags) in cidrs {
            if let Some(key) = key4(policy, net) {
                self.cidrs4.insert(&key, flags, 0)
            } else if let Some(key) = key6(policy, net) {
                self.cidrs6.insert(&key, flags, 0)
            } else {
                Ok(())
            }
            .with_context(|| format!("store range {net}: is the map full?"))?;
        }
        for &(key, flags) in ports {
            self.ports
                .insert(PortKey { policy, ..key }, flags, 0)
                .with_context(|| format!("store port {}: is the map full?", key.port.get()))?;
        }
        for &gid in groups {
            self.groups
                .insert(GroupKey { policy, gid }, GroupFlags::LISTED, 0)
                .with_context(|| format!("store group {gid}: is the map full?"))?;
        }
        Ok(())
    }

    /// Visits every range of every policy, in no particular order.
    pub(crate) fn each_cidr(
        &self,
        mut visit: impl FnMut(PolicyId, (IpNet, CidrFlags)),
    ) -> Result<()> {
        for entry in &self.cidrs4 {
            let (key, flags) = entry.context("list the IPv4 ranges")?;
            let ([id, addr], length) = (key.data(), key.prefix_len());
            if let Some((id, net)) = range(length, id, BeAddr::from_network4(addr).into()) {
                visit(id, (net, flags));
            }
        }
        for entry in &self.cidrs6 {
            let (key, flags) = entry.context("list the IPv6 ranges")?;
            let ([id, addr @ ..], length) = (key.data(), key.prefix_len());
            let addr = Ipv6Addr::from(BeAddr::from_network6(addr).octets());
            if let Some((id, net)) = range(length, id, addr.into()) {
                visit(id, (net, flags));
            }
        }
        Ok(())
    }

    /// Visits every port of every policy, in no particular order.
    pub(crate) fn each_port(&self, mut visit: impl FnMut(PortKey, PortFlags)) -> Result<()> {
        self.ports
            .iter()
            .try_for_each(|entry| entry.map(|(key, flags)| visit(key, flags)))
            .context("list the ports")
    }

    /// Visits every owner group of every policy, in no particular order.
    pub(crate) fn each_group(&self, mut visit: impl FnMut(GroupKey)) -> Result<()> {
        self.groups
            .keys()
            .try_for_each(|key| key.map(&mut visit))
            .context("list the owner groups")
    }

    /// The ranges of a policy, in no particular order.
    pub fn cidrs(&self, policy: PolicyId) -> Result<Vec<(IpNet, CidrFlags)>> {
        let mut found = Vec::new();
        self.each_cidr(|id, range| found.extend((id == policy).then_some(range)))?;
        Ok(found)
    }

    /// The ports of a policy, in no particular order.
    pub fn ports(&self, policy: PolicyId) -> Result<Vec<(PortKey, PortFlags)>> {
        let mut found = Vec::new();
        self.each_port(|key, flags| found.extend((key.policy == policy).then_some((key, flags))))?;
        Ok(found)
    }

    /// The owner groups of a policy, in no particular order.
    pub fn groups(&self, policy: PolicyId) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        self.each_group(|key| found.extend((key.policy == policy).then_some(key.gid)))?;
        Ok(found)
    }

    /// Forgets a policy's entries, where it is known which there are.
    pub fn drain(
        &mut self,
        policy: PolicyId,
        cidrs: &[(IpNet, CidrFlags)],
        ports: &[(PortKey, PortFlags)],
        groups: &[u32],
    ) -> Result<()> {
        for (net, _) in cidrs {
            if let Some(key) = key4(policy, net) {
                gone(self.cidrs4.remove(&key))
            } else if let Some(key) = key6(policy, net) {
                gone(self.cidrs6.remove(&key))
            } else {
                Ok(())
            }
            .with_context(|| format!("forget range {net}"))?;
        }
        for (key, _) in ports {
            gone(self.ports.remove(key))
                .with_context(|| format!("forget port {}", key.port.get()))?;
        }
        for &gid in groups {
            gone(self.groups.remove(&GroupKey { policy, gid }))
                .with_context(|| format!("forget group {gid}"))?;
        }
        Ok(())
    }

    /// Remembers what the ids of a policy were translated with.
    pub fn set_ids(&mut self, policy: PolicyId, ids: &IdMaps) -> Result<()> {
        let IdMaps { uids, gids } = ids;
        for (kind, map) in [(IdKey::UIDS, uids), (IdKey::GIDS, gids)] {
            let extents = match map {
                IdMap::Same => &[],
                IdMap::Extents(extents) => extents.as_slice(),
            };
            for (line, extent) in (0..).zip(extents) {
                let key = IdKey { policy, kind, line };
                let Extent {
                    inside,
                    outside,
                    count,
                } = *extent;
                self.ids
                    .insert(key, [inside, outside, count], 0)
                    .context("store the pod's ids: is the map full?")?;
            }
        }
        Ok(())
    }

    /// What the ids of a policy were translated with.
    pub fn ids(&self, policy: PolicyId) -> Result<IdMaps> {
        let map = |kind| -> Result<IdMap> {
            let mut extents = Vec::new();
            for line in 0.. {
                let found = optional(self.ids.get(&IdKey { policy, kind, line }, 0));
                let Some([inside, outside, count]) = found.context("look up the pod's ids")? else {
                    break;
                };
                extents.push(Extent {
                    inside,
                    outside,
                    count,
                });
            }
            // No policy has ids of a namespace without any.
            Ok(if extents.is_empty() {
                IdMap::Same
            } else {
                IdMap::Extents(extents)
            })
        };
        Ok(IdMaps {
            uids: map(IdKey::UIDS)?,
            gids: map(IdKey::GIDS)?,
        })
    }

    /// Forgets what the ids of a policy were translated with.
    pub fn drop_ids(&mut self, policy: PolicyId) -> Result<()> {
        let keys: Result<Vec<_>, _> = self.ids.keys().collect();
        for key in keys.context("list the pods' ids")? {
            if key.policy == policy {
                gone(self.ids.remove(&key)).context("forget the pod's ids")?;
            }
        }
        Ok(())
    }

    /// The policy with these entries, if there is one.
    pub fn policy_like(&self, fingerprint: Fingerprint) -> Result<Option<PolicyId>> {
        optional(self.policies.get(&fingerprint, 0)).context("look up a policy by its entries")
    }

    /// Lets other pods find a policy by its entries, now that it has all of them.
    pub fn share(&mut self, fingerprint: Fingerprint, policy: PolicyId) -> Result<()> {
        self.policies
            .insert(fingerprint, policy, 0)
            .context("store a policy's fingerprint: is the map full?")
    }

    /// Lets nobody find a policy any more.
    pub fn unshare(&mut self, policy: PolicyId) -> Result<()> {
        let shared: Result<Vec<_>, _> = self.policies.iter().collect();
        for (fingerprint, id) in shared.context("list the policies")? {
            if id == policy {
                gone(self.policies.remove(&fingerprint))
                    .context("forget a policy's fingerprint")?;
            }
        }
        Ok(())
    }

    /// Every policy that is known or has entries.
    pub fn policies(&self) -> Result<BTreeSet<PolicyId>> {
        let mut ids = BTreeSet::new();
        for key in self.cidrs4.keys() {
            let [id, _] = key.context("list the IPv4 ranges")?.data();
            ids.insert(PolicyId(id));
        }
        for key in self.cidrs6.keys() {
            let [id, ..] = key.context("list the IPv6 ranges")?.data();
            ids.insert(PolicyId(id));
        }
        for key in self.ports.keys() {
            ids.insert(key.context("list the ports")?.policy);
        }
        for key in self.groups.keys() {
            ids.insert(key.context("list the owner groups")?.policy);
        }
        for key in self.ids.keys() {
            ids.insert(key.context("list the pods' ids")?.policy);
        }
        for entry in &self.policies {
            let (_, policy) = entry.context("list the policies")?;
            ids.insert(policy);
        }
        Ok(ids)
    }

    /// Every local address of every namespace.
    pub fn locals(&self) -> Result<Vec<(LocalKey, LocalFlags)>> {
        self.locals
            .iter()
            .collect::<Result<_, _>>()
            .context("list the local addresses")
    }

    /// Stores a local address.
    pub fn set_local(&mut self, key: LocalKey, flags: LocalFlags) -> Result<()> {
        self.locals
            .insert(key, flags, 0)
            .context("store a local address: is the map full?")
    }

    /// Forgets a local address.
    pub fn remove_local(&mut self, key: &LocalKey) -> Result<()> {
        gone(self.locals.remove(key)).context("forget a local address")
    }

    /// What the rehearsal of a row found, in no particular order: each kind of difference, and how
    /// often it was seen.
    pub fn differences(&self, serial: Serial) -> Result<Vec<(DifferenceKey, u64)>> {
        let mut found = Vec::new();
        for entry in &self.differences {
            let (key, times) = entry.context("list the differences")?;
            if key.serial == serial {
                found.push((key, times));
            }
        }
        Ok(found)
    }

    /// Forgets what the rehearsals of all rows but these found.
    pub fn drop_differences_outside(&mut self, used: &BTreeSet<Serial>) -> Result<()> {
        let keys: Result<Vec<_>, _> = self.differences.keys().collect();
        for key in keys.context("list the differences")? {
            if !used.contains(&key.serial) {
                gone(self.differences.remove(&key)).context("forget a difference")?;
            }
        }
        Ok(())
    }

    /// Forgets the handshakes of network namespaces other than these: nobody sees them end.
    pub fn drop_flows_outside(&mut self, used: &BTreeSet<u64>) -> Result<()> {
        let keys: Result<Vec<_>, _> = self.flows.keys().collect();
        for key in keys.context("list the handshakes under way")? {
            if !used.contains(&key.netns) {
                gone(self.flows.remove(&key)).context("forget a handshake")?;
            }
        }
        Ok(())
    }

    /// Forgets the addresses that stand for destinations in all namespaces but these.
    pub fn drop_stand_ins_outside(&mut self, used: &BTreeSet<u64>) -> Result<()> {
        let having: Result<BTreeSet<u64>, _> = self.stand_in_counts.keys().collect();
        let having = having.context("list the namespaces that have stand-in addresses")?;
        if having.is_subset(used) {
            return Ok(());
        }
        let keys: Result<Vec<StandInKey>, _> = self.stand_ins.keys().collect();
        let keys = keys.context("list the addresses that stand for destinations")?;
        for key in keys.iter().filter(|key| !used.contains(&key.netns)) {
            gone(self.stand_ins.remove(key)).context("forget a stand-in address")?;
        }
        // Last: as long as there is a count, there may be addresses.
        for netns in having.difference(used) {
            gone(self.stand_in_counts.remove(netns)).context("forget a count")?;
        }
        Ok(())
    }

    /// Addresses that stand for destinations.
    pub fn stand_ins(&self) -> Result<usize> {
        count(self.stand_ins.keys()).context("list the addresses that stand for destinations")
    }

    /// Handshakes under way.
    pub fn flows(&self) -> Result<usize> {
        count(self.flows.keys()).context("list the handshakes under way")
    }

    /// Rehearsed connections that have not been judged.
    pub fn rehearsed(&self) -> Result<usize> {
        count(self.rehearsed.keys()).context("list the rehearsed connections")
    }

    /// How full those maps are that are shared by all pods, refuse what is too much, and can be listed.
    pub(crate) fn fill_levels(&self, pins: &Pins) -> Result<Vec<MapFill>> {
        let level = |map: MapName, entries: Result<usize, MapError>| {
            let counting = || format!("count the entries of {}", map.name());
            Ok(MapFill {
                map,
                entries: entries.with_context(counting)?,
                capacity: MapInfo::from_pin(pins.map(map))
                    .map(|info| info.max_entries())
                    .with_context(counting)?,
            })
        };
        [
            (MapName::Locals, count(self.locals.keys())),
            (MapName::Cidrs4, count(self.cidrs4.keys())),
            (MapName::Cidrs6, count(self.cidrs6.keys())),
            (MapName::Ports, count(self.ports.keys())),
            (MapName::Groups, count(self.groups.keys())),
            (MapName::Flows, count(self.flows.keys())),
            // There may be very many, and each namespace's are counted.
            (MapName::StandIns, total(self.stand_in_counts.iter())),
        ]
        .into_iter()
        .map(|(map, entries)| level(map, entries))
        .collect()
    }

    /// The redirector's own record.
    pub fn meta(&self) -> Result<Meta> {
        self.meta.get(&0, 0).context("read the redirector's record")
    }

    /// Replaces the redirector's own record.
    pub fn set_meta(&mut self, meta: Meta) -> Result<()> {
        self.meta
            .set(0, meta, 0)
            .context("write the redirector's record")
    }
}

/// How many keys there are.
fn count<K>(mut keys: impl Iterator<Item = Result<K, MapError>>) -> Result<usize, MapError> {
    keys.try_fold(0_usize, |count, key| {
        key.map(|_key| count.saturating_add(1))
    })
}

/// The sum of counts.
fn total<K>(
    mut counts: impl Iterator<Item = Result<(K, u64), MapError>>,
) -> Result<usize, MapError> {
    counts.try_fold(0_usize, |total, entry| {
        let (_, count) = entry?;
        Ok(total.saturating_add(usize::try_from(count).unwrap_or(usize::MAX)))
    })
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapFill {
    /// The map.
    pub map: MapName,
    /// Entries in it.
    pub entries: usize,
    /// Entries that there is room for.
    pub capacity: u32,
}

/// How many entries of how large maps there are, and the memory the kernel charges for them.
#[derive(Clone, Debug, serde::Serialize)]
pub struct MemoryUse {
    /// The map.
    pub map: &'static str,
    /// Bytes, as the kernel reports them for the map (`memlock` of its fdinfo). For range tries
    /// that is without their inner nodes.
    pub bytes: u64,
}

impl MemoryUse {
    /// The memory of each pinned map.
    pub fn read(pins: &Pins) -> Result<Vec<Self>> {
        MapName::ALL
            .into_iter()
            .map(|map| {
                let path = pins.map(map);
                let info = MapInfo::from_pin(&path)
                    .with_context(|| format!("open map \"{}\"", path.display()))?;
                let fd = info
                    .fd()
                    .with_context(|| format!("open map \"{}\"", path.display()))?;
                let raw = fd.as_fd().as_raw_fd();
                let text = fs::read_to_string(format!("/proc/self/fdinfo/{raw}"))
                    .context("read a map's fdinfo")?;
                let bytes = text
                    .lines()
                    .find_map(|line| line.strip_prefix("memlock:"))
                    .and_then(|value| value.trim().parse().ok())
                    .unwrap_or_default();
                Ok(Self {
                    map: map.name(),
                    bytes,
                })
            })
            .collect()
    }
}
