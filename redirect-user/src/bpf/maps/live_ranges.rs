//! The ranges of a policy while programs use them: changes of single ranges.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use aya::maps::MapInfo;
use ipnet::IpNet;
use redirect_common::abi::{CidrFlags, MapName, PolicyId, PolicyRecord};

use super::policy_maps::PolicyMaps;
use crate::{bpf::pins::Pins, sys};

/// The ranges of a policy. A change of one range is atomic for every connection: the kernel replaces
/// a node of the trie as a whole, and frees the old one after the programs that use it.
#[derive(Debug)]
pub struct LiveRanges {
    pins: Pins,
    policy: PolicyId,
    maps: PolicyMaps,
    tries: [Option<OwnedFd>; 2],
}

impl LiveRanges {
    pub(super) fn open(pins: &Pins, policy: PolicyId) -> Result<Self> {
        let open = |map| {
            let pin = pins.policy_map(map, policy);
            let opening = || format!("open map \"{}\"", pin.display());
            pin.exists()
                .then(|| sys::bpf::open(&pin).with_context(opening))
                .transpose()
        };
        Ok(Self {
            pins: pins.clone(),
            policy,
            maps: PolicyMaps::open(pins, policy)?,
            tries: [open(MapName::Cidrs4)?, open(MapName::Cidrs6)?],
        })
    }

    const fn trie(&self, net: &IpNet) -> Option<&OwnedFd> {
        let [v4, v6] = &self.tries;
        match net {
            IpNet::V4(_) => v4.as_ref(),
            IpNet::V6(_) => v6.as_ref(),
        }
    }

    /// The value stored for exactly this range, if there is one.
    pub fn get(&self, net: &IpNet) -> Result<Option<CidrFlags>> {
        let longest = self.maps.longest(net)?;
        let is_it = longest != CidrFlags::NONE && longest.length() == u32::from(net.prefix_len());
        Ok(is_it.then_some(longest))
    }

    /// The flags that a range inherits from those that contain it.
    pub fn outer(&self, net: &IpNet) -> Result<CidrFlags> {
        let outer = net.supernet().map(|outer| self.maps.longest(&outer));
        Ok(outer.transpose()?.unwrap_or_default().effective())
    }

    /// Whether two more ranges of the family of `net` fit into the policy of this record.
    pub fn has_room(&self, net: &IpNet, record: &PolicyRecord) -> Result<bool> {
        let (map, count) = match net {
            IpNet::V4(_) => (MapName::Cidrs4, record.cidrs4),
            IpNet::V6(_) => (MapName::Cidrs6, record.cidrs6),
        };
        let pin = self.pins.policy_map(map, self.policy);
        let info = MapInfo::from_pin(&pin);
        let capacity = info.context("read the capacity of the policy's map")?;
        Ok(count.saturating_add(2) <= capacity.max_entries())
    }

    /// Stores a range. The policy must have ranges of its family, and room for one more.
    pub fn insert(&mut self, net: &IpNet, flags: CidrFlags) -> Result<()> {
        self.maps.insert_cidr(net, flags)
    }

    /// Removes a range.
    pub fn remove(&mut self, net: &IpNet) -> Result<()> {
        self.maps.remove_cidr(net)
    }

    /// Whether `is` holds for a range inside `net`, other than `net` itself. Also `true` if there
    /// are more than `most` ranges to ask about.
    ///
    /// The kernel finds no ranges by what contains them, but lists a range after those inside it.
    /// So the first address of `net` is stored as a range for a while, with the flags that it has
    /// anyway: the ranges inside `net` follow it.
    pub fn any_inside(
        &mut self,
        net: &IpNet,
        most: usize,
        is: impl Fn(CidrFlags) -> bool,
    ) -> Result<bool> {
        let first = IpNet::from(net.network());
        if first == *net {
            return Ok(false);
        }
        if let Some(flags) = self.get(&first)? {
            return Ok(is(flags) || self.any_after(&first, net, most, is)?);
        }
        let flags = self.maps.longest(&first)?.effective();
        let marker = CidrFlags::stored(flags, CidrFlags::NONE, first.prefix_len());
        self.insert(&first, marker)?;
        let found = self.any_after(&first, net, most, is);
        self.remove(&first)?;
        found
    }

    /// The same for the ranges that the kernel lists after `first`.
    fn any_after(
        &self,
        first: &IpNet,
        net: &IpNet,
        most: usize,
        is: impl Fn(CidrFlags) -> bool,
    ) -> Result<bool> {
        let trie = self.trie(net).context("find the ranges: there are none")?;
        let mut range = *first;
        for _ in 0..most {
            let next = sys::bpf::next_range(trie.as_fd(), &range).context("list the ranges")?;
            match next {
                Some(next) if next != *net && net.contains(&next) => range = next,
                _ => return Ok(false),
            }
            if is(self.maps.longest(&range)?) {
                return Ok(true);
            }
        }
        Ok(true)
    }
}
