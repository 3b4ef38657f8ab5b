//! Changes of the ranges of an attached pod.
//!
//! A change of one range is made in the live trie if it changes one entry there: every connection
//! looks up one entry, and so meets the old list or the new one. Any other change compiles and stores
//! the whole policy anew.

use anyhow::Result;
use ipnet::IpNet;
use redirect_common::abi::{CidrFlags, Fingerprint, PolicyRecord, PolicyRow};

use super::{
    reader::Pod,
    writer::{AttachError, Writer},
};
use crate::{
    bpf::PolicyEntries,
    policy::{FingerprintKey, RangeChange, RangeEdit, RangeList, edit},
};

/// The most ranges inside a changed one that are looked at. For more, a new trie costs less.
const MOST_INSIDE: usize = 1 << 12;

/// One range that joins or leaves a list.
#[derive(Clone, Copy, Debug)]
struct OneRange {
    net: IpNet,
    list: RangeList,
    joins: bool,
}

impl OneRange {
    /// The flag of the list.
    const fn flag(&self) -> CidrFlags {
        match self.list {
            RangeList::Exclude => CidrFlags::EXCLUDED,
            RangeList::Include => CidrFlags::INCLUDED,
        }
    }

    /// The value to store instead of `old`, if any, inside ranges with the flags `outer`.
    fn stored(&self, old: Option<CidrFlags>, outer: CidrFlags) -> Option<CidrFlags> {
        let own = old.unwrap_or_default().own();
        let own = if self.joins {
            own.or(self.flag())
        } else {
            own.without(self.flag())
        };
        let stored = CidrFlags::stored(own.inside(outer), own, self.net.prefix_len());
        (own != CidrFlags::NONE).then_some(stored)
    }

    /// Whether the value of a range inside this one changes, too.
    const fn changes(&self, inside: CidrFlags, outer: CidrFlags) -> bool {
        let has = inside.effective().has(self.flag());
        if self.joins {
            !has
        } else {
            // Perhaps it has the flag from a range in between, too.
            has && !inside.own().has(self.flag()) && !outer.has(self.flag())
        }
    }

    /// The record of the policy after the change from `old` to `new`.
    fn record(
        &self,
        record: PolicyRecord,
        key: FingerprintKey,
        old: Option<CidrFlags>,
        new: Option<CidrFlags>,
    ) -> PolicyRecord {
        let range = |flags| (self.net, flags);
        let (old, new) = (old.map(range), new.map(range));
        let fingerprint = key.replaced(record.fingerprint, old, new);
        let entries = |range: Option<(IpNet, CidrFlags)>| {
            let cidrs: Vec<_> = range.into_iter().collect();
            let none = PolicyEntries {
                cidrs: &cidrs,
                ports: &[],
                groups: &[],
            };
            none.record(Fingerprint::NONE)
        };
        let (less, more) = (entries(old), entries(new));
        let moved = |of: fn(&PolicyRecord) -> u32| {
            of(&record)
                .saturating_sub(of(&less))
                .saturating_add(of(&more))
        };
        PolicyRecord {
            fingerprint,
            cidrs4: moved(|record| record.cidrs4),
            cidrs6: moved(|record| record.cidrs6),
            listed: moved(|record| record.listed),
            excluded: moved(|record| record.excluded),
            included: moved(|record| record.included),
            ..record
        }
    }
}

impl Writer {
    /// Edits a list of a pod's ranges. Every connection meets the whole old list or the whole new
    /// one.
    pub fn edit_ranges(
        &mut self,
        pod: &Pod,
        list: RangeList,
        how: RangeEdit,
        given: &[IpNet],
    ) -> Result<RangeChange, AttachError> {
        if let Some(change) = self.edit_one(pod, list, how, given)? {
            return Ok(change);
        }
        let before = self.config(pod)?;
        let (config, change) = edit(&before, list, how, given).map_err(anyhow::Error::from)?;
        if !change.added.is_empty() || !change.removed.is_empty() {
            self.update(pod, None, &config)?;
        }
        Ok(change)
    }

    /// Makes an edit that changes at most one entry. `None` if it is not such an edit.
    fn edit_one(
        &mut self,
        pod: &Pod,
        list: RangeList,
        how: RangeEdit,
        given: &[IpNet],
    ) -> Result<Option<RangeChange>> {
        let ([net], false) = (given, how == RangeEdit::Replace) else {
            return Ok(None);
        };
        let range = OneRange {
            net: net.trunc(),
            list,
            joins: how == RangeEdit::Add,
        };
        let flags = pod.row.flags;
        if list == RangeList::Include
            && (flags.any_included() || net.addr().to_canonical().is_loopback())
            // A row with another serial has no findings.
            || flags.shadow()
        {
            return Ok(None);
        }
        let Some(record) = self.maps.record(pod.row.policy)? else {
            return Ok(None);
        };
        let old = self.maps.live_ranges(pod.row.policy)?.get(&range.net)?;
        let own = old.unwrap_or_default().own();
        let total = match list {
            RangeList::Exclude => record.excluded,
            RangeList::Include => record.included,
        };
        let change = |added: &[IpNet], removed: &[IpNet], total| {
            Ok(RangeChange {
                added: added.to_vec(),
                removed: removed.to_vec(),
                total: usize::try_from(total)?,
            })
        };
        match (range.joins, own.has(range.flag())) {
            (true, true) => return change(&[], &[], total).map(Some),
            // Another function names the ranges that are not in the list.
            (false, false) => return Ok(None),
            _ => {}
        }
        let left = match range.net {
            IpNet::V4(_) => record.cidrs4,
            IpNet::V6(_) => record.cidrs6,
        };
        let is_last = left == 0 || left == 1 && !range.joins;
        let users = self.pods()?.into_iter();
        let is_shared = users
            .filter(|user| user.row.policy == pod.row.policy)
            .count()
            > 1;
        // The flags of the row would change, or another pod's policy.
        if is_last || is_shared || own.loopback() || record.fingerprint == Fingerprint::NONE {
            return Ok(None);
        }
        let is_made = self.change(|writer| writer.change_one(pod, &range, record, old))?;
        let net = &[range.net][..];
        Ok(match (is_made, range.joins) {
            (false, _) => None,
            (true, true) => Some(change(net, &[], total.saturating_add(1))?),
            (true, false) => Some(change(&[], net, total.saturating_sub(1))?),
        })
    }

    /// Changes one entry of a policy that one pod uses. `false` if other entries would change, too,
    /// or if there is no room.
    fn change_one(
        &mut self,
        pod: &Pod,
        range: &OneRange,
        record: PolicyRecord,
        old: Option<CidrFlags>,
    ) -> Result<bool> {
        let policy = pod.row.policy;
        let mut live = self.maps.live_ranges(policy)?;
        // The range, and the marker among the ranges inside.
        if !live.has_room(&range.net, &record)? {
            return Ok(false);
        }
        // Until the entry and the record agree again, no other pod finds the policy.
        let changing = PolicyRecord {
            fingerprint: Fingerprint::NONE,
            ..record
        };
        self.reader.maps.set_record(policy, changing)?;
        let outer = live.outer(&range.net)?;
        let changes = |inside| range.changes(inside, outer);
        if live.any_inside(&range.net, MOST_INSIDE, changes)? {
            self.reader.maps.set_record(policy, record)?;
            return Ok(false);
        }
        let new = range.stored(old, outer);
        match new {
            Some(flags) => live.insert(&range.net, flags)?,
            None => live.remove(&range.net)?,
        }
        let row = PolicyRow {
            serial: self.new_serial()?,
            ..pod.row
        };
        self.set_row(pod.id, &row)?;
        let record = range.record(record, self.fingerprint_key()?, old, new);
        self.reader.maps.set_record(policy, record)?;
        Ok(true)
    }

    /// Completes the records of policies that a killed process was changing.
    pub(super) fn complete_records(&mut self) -> Result<()> {
        for (policy, record) in self.maps.records()? {
            if record.fingerprint != Fingerprint::NONE {
                continue;
            }
            let mut entries = self.entries(policy)?;
            let mut live = self.maps.live_ranges(policy)?;
            let markers = |(_, flags): &mut (IpNet, CidrFlags)| flags.own() == CidrFlags::NONE;
            for (net, _) in entries.cidrs.extract_if(.., markers) {
                live.remove(&net)?;
            }
            let ids = self.maps.ids(policy)?;
            let key = self.fingerprint_key()?;
            let fingerprint =
                key.fingerprint(&entries.cidrs, &entries.ports, &entries.groups, &ids);
            let entries = PolicyEntries {
                cidrs: &entries.cidrs,
                ports: &entries.ports,
                groups: &entries.groups,
            };
            self.reader
                .maps
                .set_record(policy, entries.record(fingerprint))?;
        }
        Ok(())
    }
}
