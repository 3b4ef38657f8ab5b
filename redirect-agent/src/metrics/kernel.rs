//! Metrics that are read from the kernel: hits of rules, and the fill of maps.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use redirect_common::{abi::Hits, chain::RuleId};
use redirect_user::{bpf::MapFill, node::Reader, sys::cgroup::CgroupId};

use super::family::{WorkloadLabels, family};
use crate::status::StatusSnapshot;

/// Entries of most maps have to be counted one by one. The next count waits for this many times the duration of
/// the last one, however often metrics are scraped.
const RECOUNT_FACTOR: u32 = 100;

/// Reads the counters of the kernel.
#[derive(Debug)]
pub(super) struct KernelReader {
    state_dir: PathBuf,
    cached_fill: Mutex<Option<CachedFill>>,
}

/// Fill of the maps at the last count.
#[derive(Debug)]
struct CachedFill {
    fill: Vec<MapFill>,
    /// Duration of that count.
    duration: Duration,
    counted_at: Instant,
}

/// Counters of the kernel.
#[derive(Debug, Default)]
pub(super) struct KernelCounters {
    hits: Vec<(CgroupId, Hits)>,
    fill: Vec<MapFill>,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct RuleLabels {
    source: String,
    workload: String,
    rule: &'static str,
    verdict: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct MapLabels {
    map: &'static str,
}

impl KernelReader {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            cached_fill: Mutex::default(),
        }
    }

    pub(super) fn read(&self) -> Result<KernelCounters> {
        let Some(reader) = Reader::open(&self.state_dir)? else {
            return Ok(KernelCounters::default());
        };
        let pods = reader.pods()?;
        let hits = pods.iter().map(|pod| Ok((pod.id, reader.hits(pod)?)));
        Ok(KernelCounters {
            hits: hits.collect::<Result<_>>()?,
            fill: self.fill(&reader)?,
        })
    }

    /// Fill of the maps, from the cache while that is fresh.
    fn fill(&self, reader: &Reader) -> Result<Vec<MapFill>> {
        let mut cached_fill = self
            .cached_fill
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = cached_fill.as_ref().filter(|cached| cached.is_fresh()) {
            return Ok(cached.fill.clone());
        }
        let begun = Instant::now();
        let fill = reader.fill()?;
        *cached_fill = Some(CachedFill {
            fill: fill.clone(),
            duration: begun.elapsed(),
            counted_at: begun,
        });
        drop(cached_fill);
        Ok(fill)
    }
}

impl CachedFill {
    fn is_fresh(&self) -> bool {
        self.counted_at.elapsed() < self.duration.saturating_mul(RECOUNT_FACTOR)
    }
}

pub(super) fn describe_kernel(
    registry: &mut Registry,
    snapshot: &StatusSnapshot,
    kernel: &KernelCounters,
) {
    let connections: Family<RuleLabels, Counter> = family(
        registry,
        "redirect_connections",
        "Connections decided, by rule and verdict; rules that never matched are left out",
    );
    let lost: Family<WorkloadLabels, Counter> = family(
        registry,
        "redirect_original_destination_lost",
        "Connections whose original destination was lost: FLOWS was full",
    );
    let refused: Family<WorkloadLabels, Counter> = family(
        registry,
        "redirect_record_failed",
        "Connections refused because there was no memory to record their destination",
    );
    let by_cgroup: BTreeMap<CgroupId, _> = snapshot
        .workloads
        .iter()
        .filter_map(|workload| Some((workload.cgroup?, workload)))
        .collect();
    for (cgroup, hits) in &kernel.hits {
        // An attachment that no known workload claims.
        let unknown = || (String::new(), format!("cgroup {cgroup}"));
        let (source, workload) = by_cgroup.get(cgroup).map_or_else(unknown, |workload| {
            (workload.id.source.to_owned(), workload.name.clone())
        });
        for rule in RuleId::ALL {
            if hits.of(rule) == 0 {
                continue;
            }
            let labels = RuleLabels {
                source: source.clone(),
                workload: workload.clone(),
                rule: rule.name(),
                verdict: rule.verdict().name(),
            };
            connections.get_or_create(&labels).inc_by(hits.of(rule));
        }
        let labels = WorkloadLabels { source, workload };
        lost.get_or_create(&labels).inc_by(hits.flow_lost);
        refused.get_or_create(&labels).inc_by(hits.record_failed);
    }
    describe_maps(registry, &kernel.fill);
}

fn describe_maps(registry: &mut Registry, fill: &[MapFill]) {
    let entries: Family<MapLabels, Gauge> = family(
        registry,
        "redirect_map_entries",
        "Entries in a map that all workloads share, or in the fullest one of those that each policy has",
    );
    let capacity: Family<MapLabels, Gauge> =
        family(registry, "redirect_map_capacity", "Capacity of that map");
    for map_fill in fill {
        let map = map_fill.map;
        let count = i64::try_from(map_fill.entries).unwrap_or(i64::MAX);
        entries.get_or_create(&MapLabels { map }).set(count);
        let limit = i64::from(map_fill.capacity);
        capacity.get_or_create(&MapLabels { map }).set(limit);
    }
}
