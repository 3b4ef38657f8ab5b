//! What is attached, as it was read: a row is another one after each change, so a known one is not read again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::Result;
use redirect_common::abi::PolicyRow;
use redirect_user::{
    config::RedirectConfig,
    node::{Reader, attached_by_others},
    sys::cgroup::CgroupId,
};

use super::sight::FRESH;
use crate::plan::{Attached, Attachments, Stand, Wanted};

/// The configurations of attached cgroups.
#[derive(Debug)]
pub(super) struct AttachmentCache {
    owner: PathBuf,
    /// What attached cgroups were found to have, with their row, which is another one after every
    /// change.
    known: BTreeMap<CgroupId, (PolicyRow, Arc<RedirectConfig>)>,
    /// When each link was last looked at.
    looked_closely: Option<Instant>,
}

impl AttachmentCache {
    pub(super) fn new(owner: &Path) -> Self {
        Self {
            owner: owner.to_owned(),
            known: BTreeMap::new(),
            looked_closely: None,
        }
    }

    /// Notes what was just written, which need not be read.
    pub(super) fn insert(
        &mut self,
        cgroup: CgroupId,
        row: &PolicyRow,
        config: Arc<RedirectConfig>,
    ) {
        self.known.insert(cgroup, (*row, config));
    }

    /// Has what is attached and what is wanted be one in memory where they are the same: they are large,
    /// and compared in every pass.
    pub(super) fn share(&mut self, wanted: &[Wanted]) {
        for workload in wanted {
            let Stand::Ready(target) = &workload.stand else {
                continue;
            };
            let Some((_, config)) = self.known.get_mut(&target.cgroup) else {
                continue;
            };
            let mut due = target.until_proxy.iter().chain([&target.config]);
            if let Some(same) = due.find(|due| *due == config) {
                *config = Arc::clone(same);
            }
        }
    }

    /// What is attached, and whether something else was left behind.
    pub(super) fn read(&mut self) -> Result<(Attachments, bool)> {
        let others = attached_by_others(&self.owner)?;
        let Some(reader) = Reader::open(&self.owner)? else {
            self.known.clear();
            let own = Vec::new();
            return Ok((Attachments { own, others }, false));
        };
        let pods = reader.pods()?;
        let rows: BTreeMap<_, _> = pods.iter().map(|pod| (pod.id, pod.row)).collect();
        self.known
            .retain(|cgroup, (row, _)| rows.get(cgroup) == Some(row));
        let unknown: Vec<_> = pods
            .iter()
            .filter(|pod| !self.known.contains_key(&pod.id))
            .copied()
            .collect();
        for (pod, config) in unknown.iter().zip(reader.configs(&unknown)?) {
            self.known.insert(pod.id, (pod.row, Arc::new(config)));
        }
        let attached = pods.iter().filter_map(|pod| {
            let (_, config) = self.known.get(&pod.id)?;
            Some(Attached {
                cgroup: pod.id,
                netns: pod.row.netns,
                config: Arc::clone(config),
            })
        });
        let own = attached.collect();
        let is_due = |at: Instant| at.elapsed() >= FRESH;
        let has_leftovers = if self.looked_closely.is_none_or(is_due) {
            self.looked_closely = Some(Instant::now());
            reader.has_leftovers()?
        } else {
            reader.is_unfinished(&pods)?
        };
        Ok((Attachments { own, others }, has_leftovers))
    }
}
