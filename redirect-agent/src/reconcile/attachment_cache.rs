//! A cache of the attachments: a change always gives a row another serial, so a known row is not read again.

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
    node::{Health, Pod, Reader, attached_by_others, missing_text},
    sys::cgroup::CgroupId,
};

use super::location_cache::FULL_CHECK_INTERVAL;
use crate::plan::{Attached, Attachments, Resolution, ResolvedWorkload};

/// Configurations of attached cgroups.
#[derive(Debug)]
pub(super) struct AttachmentCache {
    state_dir: PathBuf,
    /// Rows and configurations as read last.
    rows: BTreeMap<CgroupId, (PolicyRow, Arc<RedirectConfig>)>,
    /// Programs that attached cgroups lacked at the last check of every link.
    missing: BTreeMap<CgroupId, String>,
    /// Time of the last check of every link.
    last_full_check: Option<Instant>,
}

impl AttachmentCache {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            rows: BTreeMap::new(),
            missing: BTreeMap::new(),
            last_full_check: None,
        }
    }

    /// Records a row that was just written, so that it is not read.
    pub(super) fn insert(
        &mut self,
        cgroup: CgroupId,
        row: &PolicyRow,
        config: Arc<RedirectConfig>,
    ) {
        self.rows.insert(cgroup, (*row, config));
        // Every change attaches what was missing.
        self.missing.remove(&cgroup);
    }

    /// Shares one Arc between equal attached and desired configurations: they are large, and every pass
    /// compares them.
    pub(super) fn share(&mut self, workloads: &[ResolvedWorkload]) {
        for workload in workloads {
            let Resolution::Ready(target) = &workload.resolution else {
                continue;
            };
            let Some((_, config)) = self.rows.get_mut(&target.cgroup) else {
                continue;
            };
            let mut due = target.until_proxy.iter().chain([&target.config]);
            if let Some(same) = due.find(|due| *due == config) {
                *config = Arc::clone(same);
            }
        }
    }

    /// Reads the attachments, and whether a killed writer left something behind.
    pub(super) fn read(&mut self) -> Result<(Attachments, bool)> {
        let other_layouts = attached_by_others(&self.state_dir)?;
        let is_due = |at: Instant| at.elapsed() >= FULL_CHECK_INTERVAL;
        let is_full_check = self.last_full_check.is_none_or(is_due);
        let found = Reader::read(&self.state_dir, |reader| self.look(reader, is_full_check))?;
        let Some(Found {
            pods,
            configs,
            health,
            has_leftovers,
        }) = found
        else {
            self.rows.clear();
            self.missing.clear();
            let current_layout = Vec::new();
            return Ok((
                Attachments {
                    current_layout,
                    other_layouts,
                },
                false,
            ));
        };
        let rows: BTreeMap<_, _> = pods.iter().map(|pod| (pod.id, pod.row)).collect();
        self.rows
            .retain(|cgroup, (row, _)| rows.get(cgroup) == Some(row));
        for (pod, config) in configs {
            self.rows.insert(pod.id, (pod.row, Arc::new(config)));
        }
        if is_full_check {
            let damaged = pods
                .iter()
                .zip(&health)
                .filter(|(_, health)| !health.missing.is_empty());
            self.missing = damaged
                .map(|(pod, health)| (pod.id, missing_text(&health.missing)))
                .collect();
            self.last_full_check = Some(Instant::now());
        }
        let attached = pods.iter().filter_map(|pod| {
            let (_, config) = self.rows.get(&pod.id)?;
            Some(Attached {
                cgroup: pod.id,
                netns: pod.row.netns,
                config: Arc::clone(config),
                missing: self.missing.get(&pod.id).cloned(),
            })
        });
        let current_layout = attached.collect();
        Ok((
            Attachments {
                current_layout,
                other_layouts,
            },
            has_leftovers,
        ))
    }
    /// Reads what the cache lacks, and in a full check the health of all pods.
    fn look(&self, reader: &Reader, is_full_check: bool) -> Result<Found> {
        let pods = reader.pods()?;
        let is_known = |pod: &Pod| {
            let cached = self.rows.get(&pod.id);
            cached.is_some_and(|(row, _)| *row == pod.row)
        };
        let unknown: Vec<_> = pods.iter().filter(|pod| !is_known(pod)).copied().collect();
        let configs = reader.configs(&unknown)?;
        let (health, has_leftovers) = if is_full_check {
            (reader.health(&pods)?, reader.has_leftovers()?)
        } else {
            (Vec::new(), reader.is_unfinished(&pods)?)
        };
        Ok(Found {
            pods,
            configs: unknown.into_iter().zip(configs).collect(),
            health,
            has_leftovers,
        })
    }
}

/// The attachments that were read.
struct Found {
    pods: Vec<Pod>,
    /// The configurations of the rows that the cache lacks.
    configs: Vec<(Pod, RedirectConfig)>,
    /// The health of the pods, in their order; empty without a full check.
    health: Vec<Health>,
    has_leftovers: bool,
}
