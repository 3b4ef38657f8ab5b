//! The entries of policies: ranges, ports, owner groups, id maps and fingerprints.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::Key;
use ipnet::IpNet;
use redirect_common::{
    abi::{
        Cidr4Data, Cidr6Data, CidrFlags, Fingerprint, GroupFlags, GroupKey, IdKey, MAX_CIDRS,
        MAX_GROUPS, MAX_IDS, MAX_POLICIES, MAX_PORTS, POLICY_BITS, PolicyId, PortFlags, PortKey,
    },
    net::BeAddr,
};

use super::{
    open::{check_stored, ignore_missing, optional},
    pinned_maps::Maps,
};
use crate::sys::userns::{Extent, IdMap, IdMaps};

/// The key of an IPv4 range; `None` for an IPv6 range.
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

/// The policy and range of a key. The family is that of the map: an IPv4-mapped range in the IPv6
/// map is an IPv6 range.
fn range(prefix_len: u32, policy: u32, addr: IpAddr) -> Option<(PolicyId, IpNet)> {
    let length = u8::try_from(prefix_len.checked_sub(POLICY_BITS)?).ok()?;
    Some((PolicyId(policy), IpNet::new(addr, length).ok()?))
}

impl Maps {
    /// The flags of an address under a policy, by the kernel's own longest-prefix match.
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

    /// Stores the entries of a policy under an id. The ids in the keys of `ports` are ignored.
    pub fn fill(
        &mut self,
        policy: PolicyId,
        cidrs: &[(IpNet, CidrFlags)],
        ports: &[(PortKey, PortFlags)],
        groups: &[u32],
    ) -> Result<()> {
        for (net, flags) in cidrs {
            let (result, ranges) = if let Some(key) = key4(policy, net) {
                (self.cidrs4.insert(&key, flags, 0), "IPv4 ranges")
            } else if let Some(key) = key6(policy, net) {
                (self.cidrs6.insert(&key, flags, 0), "IPv6 ranges")
            } else {
                continue;
            };
            check_stored(result, || format!("range {net}"), MAX_CIDRS, ranges)?;
        }
        for &(key, flags) in ports {
            let result = self.ports.insert(PortKey { policy, ..key }, flags, 0);
            let port = || format!("port {}", key.port.get());
            check_stored(result, port, MAX_PORTS, "ports")?;
        }
        for &gid in groups {
            let key = GroupKey { policy, gid };
            let result = self.groups.insert(key, GroupFlags::LISTED, 0);
            check_stored(
                result,
                || format!("group {gid}"),
                MAX_GROUPS,
                "owner groups",
            )?;
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

    /// Removes the entries of a policy. The caller knows which entries there are.
    pub fn remove_entries(
        &mut self,
        policy: PolicyId,
        cidrs: &[(IpNet, CidrFlags)],
        ports: &[(PortKey, PortFlags)],
        groups: &[u32],
    ) -> Result<()> {
        for (net, _) in cidrs {
            if let Some(key) = key4(policy, net) {
                ignore_missing(self.cidrs4.remove(&key))
            } else if let Some(key) = key6(policy, net) {
                ignore_missing(self.cidrs6.remove(&key))
            } else {
                Ok(())
            }
            .with_context(|| format!("remove range {net}"))?;
        }
        for (key, _) in ports {
            ignore_missing(self.ports.remove(key))
                .with_context(|| format!("remove port {}", key.port.get()))?;
        }
        for &gid in groups {
            ignore_missing(self.groups.remove(&GroupKey { policy, gid }))
                .with_context(|| format!("remove group {gid}"))?;
        }
        Ok(())
    }

    /// Stores the id maps with which the ids of a policy were translated.
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
                let result = self.ids.insert(key, [inside, outside, count], 0);
                let most = usize::try_from(MAX_IDS)?;
                check_stored(
                    result,
                    || "the pod's ids".to_owned(),
                    most,
                    "lines of id maps",
                )?;
            }
        }
        Ok(())
    }

    /// The id maps with which the ids of a policy were translated.
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
            // No policy has ids of a namespace without id maps.
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

    /// Removes the id maps of a policy.
    pub fn drop_ids(&mut self, policy: PolicyId) -> Result<()> {
        let keys: Result<Vec<_>, _> = self.ids.keys().collect();
        for key in keys.context("list the pods' ids")? {
            if key.policy == policy {
                ignore_missing(self.ids.remove(&key)).context("remove the pod's ids")?;
            }
        }
        Ok(())
    }

    /// The policy whose entries have this fingerprint, if there is one.
    pub fn policy_like(&self, fingerprint: Fingerprint) -> Result<Option<PolicyId>> {
        optional(self.policies.get(&fingerprint, 0)).context("look up a policy by its entries")
    }

    /// Makes a policy available to other pods under its fingerprint. The caller has stored all of
    /// its entries.
    pub fn share(&mut self, fingerprint: Fingerprint, policy: PolicyId) -> Result<()> {
        let result = self.policies.insert(fingerprint, policy, 0);
        let most = usize::try_from(MAX_POLICIES)?;
        check_stored(
            result,
            || "a policy's fingerprint".to_owned(),
            most,
            "policies",
        )
    }

    /// Removes a policy's fingerprint, so that no other pod finds the policy.
    pub fn unshare(&mut self, policy: PolicyId) -> Result<()> {
        let shared: Result<Vec<_>, _> = self.policies.iter().collect();
        for (fingerprint, id) in shared.context("list the policies")? {
            if id == policy {
                ignore_missing(self.policies.remove(&fingerprint))
                    .context("remove a policy's fingerprint")?;
            }
        }
        Ok(())
    }

    /// Every policy that has a fingerprint or entries.
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
}
