//! The maps of one policy: its ranges, ports and owner groups. Each map is as large as it has to
//! be, and does not exist if it would be empty.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError, MapType, lpm_trie::Key};
use ipnet::IpNet;
use redirect_common::{
    abi::{
        Cidr4Data, Cidr6Data, CidrFlags, GroupFlags, MAX_CIDRS, MAX_GROUPS, MAX_PORTS, MapName,
        PolicyId, PolicyRecord, PortFlags, PortKey,
    },
    net::BeAddr,
};
use rustix::io::Errno;

use super::open::{ignore_missing, is_errno, open_if_pinned, optional};
use crate::bpf::{object::NO_PREALLOC, pins::Pins};

/// The least number of ranges that a new trie has room for beyond those of its policy.
const SPARE_CIDRS: u32 = 1 << 10;

type Cidrs4 = LpmTrie<MapData, Cidr4Data, CidrFlags>;
type Cidrs6 = LpmTrie<MapData, Cidr6Data, CidrFlags>;
type Ports = HashMap<MapData, PortKey, PortFlags>;
type Groups = HashMap<MapData, u32, GroupFlags>;

/// The maps of one policy.
pub(super) struct PolicyMaps {
    cidrs4: Option<Cidrs4>,
    cidrs6: Option<Cidrs6>,
    ports: Option<Ports>,
    groups: Option<Groups>,
}

/// The key of an IPv4 range; `None` for an IPv6 range.
fn key4(net: &IpNet) -> Option<Key<Cidr4Data>> {
    let IpNet::V4(net) = net else { return None };
    let addr = BeAddr::from(net.network());
    Some(Key::new(u32::from(net.prefix_len()), addr.word4()))
}

fn key6(net: &IpNet) -> Option<Key<Cidr6Data>> {
    let IpNet::V6(net) = net else { return None };
    let addr = BeAddr::from(net.network());
    Some(Key::new(u32::from(net.prefix_len()), addr.words()))
}

/// The range of an IPv4 key.
fn net4(key: Key<Cidr4Data>) -> Option<IpNet> {
    net(key.prefix_len(), BeAddr::from_network4(key.data()).into())
}

/// The range of an IPv6 key. An IPv4-mapped range is an IPv6 range.
fn net6(key: &Key<Cidr6Data>) -> Option<IpNet> {
    let addr = Ipv6Addr::from(BeAddr::from_network6(key.data()).octets());
    net(key.prefix_len(), addr.into())
}

fn net(length: u32, addr: IpAddr) -> Option<IpNet> {
    IpNet::new(addr, u8::try_from(length).ok()?).ok()
}

impl fmt::Debug for PolicyMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not all of aya's map types implement Debug, and their output would tell nothing.
        f.debug_struct("PolicyMaps").finish_non_exhaustive()
    }
}

impl PolicyMaps {
    /// Opens the maps that a policy has.
    pub(super) fn open(pins: &Pins, policy: PolicyId) -> Result<Self> {
        let pin = |map| pins.policy_map(map, policy);
        let (trie, hash) = (MapType::LpmTrie, MapType::Hash);
        let cidrs4 = open_if_pinned::<Key<Cidr4Data>, CidrFlags>(&pin(MapName::Cidrs4), trie)?;
        let cidrs6 = open_if_pinned::<Key<Cidr6Data>, CidrFlags>(&pin(MapName::Cidrs6), trie)?;
        let ports = open_if_pinned::<PortKey, PortFlags>(&pin(MapName::Ports), hash)?;
        let groups = open_if_pinned::<u32, GroupFlags>(&pin(MapName::Groups), hash)?;
        Ok(Self {
            cidrs4: cidrs4
                .map(Map::LpmTrie)
                .map(TryFrom::try_from)
                .transpose()?,
            cidrs6: cidrs6
                .map(Map::LpmTrie)
                .map(TryFrom::try_from)
                .transpose()?,
            ports: ports.map(Map::HashMap).map(TryFrom::try_from).transpose()?,
            groups: groups
                .map(Map::HashMap)
                .map(TryFrom::try_from)
                .transpose()?,
        })
    }

    /// Creates and pins the maps of a policy with this number of entries. No program finds them
    /// yet.
    pub(super) fn create(pins: &Pins, policy: PolicyId, record: &PolicyRecord) -> Result<Self> {
        refuse_too_many(record)?;
        // Room for the ranges that are stored one by one later.
        let with_spare = |count: u32| {
            let spare = (count >> 2).max(SPARE_CIDRS);
            count.saturating_add(spare).min(MAX_CIDRS)
        };
        for (map, size) in record.counts() {
            if size == 0 {
                continue;
            }
            let pin = pins.policy_map(map, policy);
            let creating = || format!("create map \"{}\"", pin.display());
            let pinned = if map == MapName::Cidrs4 {
                Cidrs4::create(with_spare(size), NO_PREALLOC).map(|map| map.pin(&pin))
            } else if map == MapName::Cidrs6 {
                Cidrs6::create(with_spare(size), NO_PREALLOC).map(|map| map.pin(&pin))
            } else if map == MapName::Ports {
                Ports::create(size, NO_PREALLOC).map(|map| map.pin(&pin))
            } else {
                Groups::create(size, NO_PREALLOC).map(|map| map.pin(&pin))
            };
            pinned.with_context(creating)?.with_context(creating)?;
        }
        Self::open(pins, policy)
    }

    /// Stores the entries of a policy in maps that were created for them.
    pub(super) fn fill(
        &mut self,
        cidrs: &[(IpNet, CidrFlags)],
        ports: &[(PortKey, PortFlags)],
        groups: &[u32],
    ) -> Result<()> {
        for (net, flags) in cidrs {
            self.insert_cidr(net, *flags)?;
        }
        if let Some(map) = &mut self.ports {
            for (key, flags) in ports {
                let stored = with_memory(|| map.insert(key, flags, 0));
                stored.with_context(|| format!("store port {}", key.port.get()))?;
            }
        }
        if let Some(map) = &mut self.groups {
            for gid in groups {
                let stored = with_memory(|| map.insert(gid, GroupFlags::LISTED, 0));
                stored.with_context(|| format!("store group {gid}"))?;
            }
        }
        Ok(())
    }

    /// Stores a range.
    pub(super) fn insert_cidr(&mut self, net: &IpNet, flags: CidrFlags) -> Result<()> {
        let stored = if let (Some(key), Some(map)) = (key4(net), &mut self.cidrs4) {
            with_memory(|| map.insert(&key, flags, 0))
        } else if let (Some(key), Some(map)) = (key6(net), &mut self.cidrs6) {
            with_memory(|| map.insert(&key, flags, 0))
        } else {
            bail!("store range {net}: the policy has no map for its family");
        };
        stored.with_context(|| format!("store range {net}"))
    }

    /// Removes a range. It may be missing already.
    pub(super) fn remove_cidr(&mut self, net: &IpNet) -> Result<()> {
        let removed = if let (Some(key), Some(map)) = (key4(net), &mut self.cidrs4) {
            map.remove(&key)
        } else if let (Some(key), Some(map)) = (key6(net), &mut self.cidrs6) {
            map.remove(&key)
        } else {
            Ok(())
        };
        ignore_missing(removed).with_context(|| format!("remove range {net}"))
    }

    /// The flags of the longest range that contains the address, by the kernel's own match.
    pub(super) fn cidr(&self, addr: BeAddr) -> Result<CidrFlags> {
        self.longest(&IpNet::from(IpAddr::from(addr)))
    }

    /// The flags of the longest range that contains all of `net`.
    pub(super) fn longest(&self, net: &IpNet) -> Result<CidrFlags> {
        let found = if let (Some(key), Some(map)) = (key4(net), &self.cidrs4) {
            optional(map.get(&key, 0))
        } else if let (Some(key), Some(map)) = (key6(net), &self.cidrs6) {
            optional(map.get(&key, 0))
        } else {
            Ok(None)
        };
        let found = found.context("look up the destination's ranges")?;
        Ok(found.unwrap_or_default())
    }

    /// The flags of a port.
    pub(super) fn port(&self, key: PortKey) -> Result<PortFlags> {
        let found = self.ports.as_ref().map(|map| optional(map.get(&key, 0)));
        let found = found
            .transpose()
            .context("look up the destination's port")?;
        Ok(found.flatten().unwrap_or_default())
    }

    /// The flags of an owner group.
    pub(super) fn group(&self, gid: u32) -> Result<GroupFlags> {
        let found = self.groups.as_ref().map(|map| optional(map.get(&gid, 0)));
        let found = found.transpose().context("look up the owner's group")?;
        Ok(found.flatten().unwrap_or_default())
    }

    /// The ranges, in no particular order.
    pub(super) fn cidrs(&self) -> Result<Vec<(IpNet, CidrFlags)>> {
        let mut found = Vec::new();
        for entry in self.cidrs4.iter().flat_map(|map| map.iter()) {
            let (key, flags) = entry.context("list the IPv4 ranges")?;
            found.extend(net4(key).map(|net| (net, flags)));
        }
        for entry in self.cidrs6.iter().flat_map(|map| map.iter()) {
            let (key, flags) = entry.context("list the IPv6 ranges")?;
            found.extend(net6(&key).map(|net| (net, flags)));
        }
        Ok(found)
    }

    /// The ports, in no particular order.
    pub(super) fn ports(&self) -> Result<Vec<(PortKey, PortFlags)>> {
        let entries = self.ports.iter().flat_map(|map| map.iter());
        entries.collect::<Result<_, _>>().context("list the ports")
    }

    /// The owner groups, in no particular order.
    pub(super) fn groups(&self) -> Result<Vec<u32>> {
        let keys = self.groups.iter().flat_map(|map| map.keys());
        keys.collect::<Result<_, _>>()
            .context("list the owner groups")
    }
}

/// Refuses a policy that exceeds a limit.
fn refuse_too_many(record: &PolicyRecord) -> Result<()> {
    for (count, most, entries) in [
        (record.cidrs4, MAX_CIDRS, "IPv4 ranges"),
        (record.cidrs6, MAX_CIDRS, "IPv6 ranges"),
        (record.ports, MAX_PORTS, "ports"),
        (record.groups, MAX_GROUPS, "owner groups"),
    ] {
        if count > most {
            bail!(
                "store the policy: it has {count} {entries}, and a policy can have {most}: leave some out"
            );
        }
    }
    Ok(())
}

/// Stores an entry, and tries again for a while if the kernel has no memory at hand: it allocates
/// entries without waiting for memory to be freed.
#[expect(
    clippy::disallowed_methods,
    reason = "no event tells when the kernel has refilled its reserve"
)]
fn with_memory(mut store: impl FnMut() -> Result<(), MapError>) -> Result<()> {
    const RETRIES: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(2);
    for _ in 0..RETRIES {
        match store() {
            Err(error) if is_errno(&error, Errno::NOMEM) => thread::sleep(PAUSE),
            result => return Ok(result?),
        }
    }
    store().context("the kernel has no memory for it: free memory, or raise the memory limit of this process's cgroup")
}
