//! The policies: their records, and the maps of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use redirect_common::{
    abi::{
        CidrFlags, Fingerprint, GroupFlags, MAX_POLICIES, PolicyId, PolicyRecord, PortFlags,
        PortKey,
    },
    net::BeAddr,
};

use super::{
    live_ranges::LiveRanges,
    open::{check_stored, ignore_missing, optional, pin_gone},
    pinned_maps::Maps,
    policy_maps::PolicyMaps,
};
use crate::bpf::pins::Pins;

/// The entries of a policy.
#[derive(Clone, Copy, Debug)]
pub struct PolicyEntries<'a> {
    /// Ranges of both families.
    pub cidrs: &'a [(IpNet, CidrFlags)],
    /// Ports of both directions.
    pub ports: &'a [(PortKey, PortFlags)],
    /// Owner groups.
    pub groups: &'a [u32],
}

impl PolicyEntries<'_> {
    /// The record of a policy with these entries.
    pub fn record(&self, fingerprint: Fingerprint) -> PolicyRecord {
        let count = |is: fn(&IpNet, CidrFlags) -> bool| {
            let ranges = self.cidrs.iter();
            let found = ranges.filter(|(net, flags)| is(net, *flags)).count();
            u32::try_from(found).unwrap_or(u32::MAX)
        };
        PolicyRecord {
            fingerprint,
            cidrs4: count(|net, _| matches!(net, IpNet::V4(_))),
            cidrs6: count(|net, _| matches!(net, IpNet::V6(_))),
            listed: count(|_, flags| flags.is_listed()),
            excluded: count(|_, flags| flags.own().excluded()),
            included: count(|_, flags| flags.own().included()),
            ports: u32::try_from(self.ports.len()).unwrap_or(u32::MAX),
            groups: u32::try_from(self.groups.len()).unwrap_or(u32::MAX),
        }
    }
}

impl Maps {
    /// The flags of an address under a policy, by the kernel's own longest-prefix match.
    pub fn cidr(&self, policy: PolicyId, addr: BeAddr) -> Result<CidrFlags> {
        self.of(policy)?.cidr(addr)
    }

    /// The flags of a port under a policy.
    pub fn port(&self, policy: PolicyId, key: PortKey) -> Result<PortFlags> {
        self.of(policy)?.port(key)
    }

    /// The flags of an owner group under a policy.
    pub fn group(&self, policy: PolicyId, gid: u32) -> Result<GroupFlags> {
        self.of(policy)?.group(gid)
    }

    /// The ranges of a policy, in no particular order.
    pub fn cidrs(&self, policy: PolicyId) -> Result<Vec<(IpNet, CidrFlags)>> {
        self.of(policy)?.cidrs()
    }

    /// The ports of a policy, in no particular order.
    pub fn ports(&self, policy: PolicyId) -> Result<Vec<(PortKey, PortFlags)>> {
        self.of(policy)?.ports()
    }

    /// The owner groups of a policy, in no particular order.
    pub fn groups(&self, policy: PolicyId) -> Result<Vec<u32>> {
        self.of(policy)?.groups()
    }

    fn of(&self, policy: PolicyId) -> Result<PolicyMaps> {
        // A policy without entries has no map, so that a lost pin must not look like that.
        let record = self.record(policy)?;
        for (map, count) in record.iter().flat_map(PolicyRecord::counts) {
            let pin = self.pins.policy_map(map, policy);
            if count > 0 && !pin.exists() {
                return Err(pin_gone(&pin));
            }
        }
        PolicyMaps::open(&self.pins, policy)
    }

    /// Stores the entries of a policy in maps of its own, which programs find from then on. Returns
    /// whether that has waited for every program run that began before.
    pub fn store_policy(&self, policy: PolicyId, entries: PolicyEntries<'_>) -> Result<bool> {
        let PolicyEntries {
            cidrs,
            ports,
            groups,
        } = entries;
        let record = entries.record(Fingerprint::NONE);
        PolicyMaps::create(&self.pins, policy, &record)?.fill(cidrs, ports, groups)?;
        self.arrays.store(&self.pins, policy)
    }

    /// The ranges of a policy, to change them while programs use them.
    pub fn live_ranges(&self, policy: PolicyId) -> Result<LiveRanges> {
        LiveRanges::open(&self.pins, policy)
    }

    /// Removes the maps of policies and their id maps. Returns when no program uses them any more.
    pub fn drop_policies(&mut self, policies: &BTreeSet<PolicyId>) -> Result<()> {
        let list: Vec<_> = policies.iter().copied().collect();
        self.arrays.clear(&self.pins, &list)?;
        for path in self.policy_pins()? {
            if policy_of(&path).is_some_and(|policy| policies.contains(&policy)) {
                fs::remove_file(&path).with_context(|| format!("remove \"{}\"", path.display()))?;
            }
        }
        self.drop_ids(policies)
    }

    /// The records of all complete policies.
    pub fn records(&self) -> Result<BTreeMap<PolicyId, PolicyRecord>> {
        let records = self.policies.iter();
        records
            .collect::<Result<_, _>>()
            .context("list the policies")
    }

    /// The record of a policy, if it is complete.
    pub fn record(&self, policy: PolicyId) -> Result<Option<PolicyRecord>> {
        optional(self.policies.get(&policy, 0)).context("read the policy's record")
    }

    /// The policy whose entries have this fingerprint, if there is one.
    pub fn policy_like(&self, fingerprint: Fingerprint) -> Result<Option<PolicyId>> {
        let records = self.records()?.into_iter();
        let mut like = records.filter(|(_, record)| record.fingerprint == fingerprint);
        Ok(like.next().map(|(policy, _)| policy))
    }

    /// Writes a policy's record, which makes the policy available to other pods. The caller has
    /// stored all of its entries.
    pub fn set_record(&mut self, policy: PolicyId, record: PolicyRecord) -> Result<()> {
        let result = self.policies.insert(policy, record, 0);
        let most = usize::try_from(MAX_POLICIES)?;
        check_stored(result, || "a policy's record".to_owned(), most, "policies")
    }

    /// Removes a policy's record, so that no other pod finds the policy.
    pub fn remove_record(&mut self, policy: PolicyId) -> Result<()> {
        ignore_missing(self.policies.remove(&policy)).context("remove a policy's record")
    }

    /// Every policy that has a record or entries.
    pub fn policies(&self) -> Result<BTreeSet<PolicyId>> {
        let mut policies: BTreeSet<_> = self.records()?.into_keys().collect();
        policies.extend(
            self.policy_pins()?
                .iter()
                .filter_map(|path| policy_of(path)),
        );
        policies.extend(self.policies_with_ids()?);
        Ok(policies)
    }

    /// The pins of the maps of all policies.
    fn policy_pins(&self) -> Result<Vec<PathBuf>> {
        let folder = self.pins.maps();
        let entries =
            fs::read_dir(&folder).with_context(|| format!("list \"{}\"", folder.display()))?;
        let paths = entries.flatten().map(|entry| entry.path());
        Ok(paths.filter(|path| policy_of(path).is_some()).collect())
    }
}

/// The policy whose map is pinned at `path`. The map of no policy is not one of a policy: it serves
/// to wait.
fn policy_of(path: &Path) -> Option<PolicyId> {
    let name = path.file_name()?.to_str()?;
    Pins::policy_of(name).filter(|policy| *policy != PolicyId::NONE)
}
