//! Metrics that are read from the kernel: hits of rules, the programs that run, and the fill of maps.

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
use redirect_user::{
    bpf::MapFill,
    node::{Health, Pod, Reader},
    sys::cgroup::CgroupId,
};

use super::family::{WorkloadLabels, family};
use crate::status::StatusSnapshot;

/// Entries of most maps have to be counted one by one. The next count waits for this many times the duration of
/// the last one, however often metrics are scraped.
const RECOUNT_FACTOR: u32 = 100;

/// Reads the counters of the kernel.
#[derive(Debug)]
pub(super) struct KernelReader {
    state_dir: PathBuf,
    cached_counts: Mutex<Option<CachedCounts>>,
}

/// Fill of the maps and health of the pods at the last count.
#[derive(Debug)]
struct CachedCounts {
    fill: Vec<MapFill>,
    health: Vec<(CgroupId, Health)>,
    /// Duration of that count.
    duration: Duration,
    counted_at: Instant,
}

/// Counters of the kernel.
#[derive(Debug, Default)]
pub(super) struct KernelCounters {
    hits: Vec<(CgroupId, Hits)>,
    health: Vec<(CgroupId, Health)>,
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
struct MissingLabels {
    source: String,
    workload: String,
    hook: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct ForeignLabels {
    source: String,
    workload: String,
    hook: &'static str,
    program: String,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct MapLabels {
    map: &'static str,
}

impl KernelReader {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            cached_counts: Mutex::default(),
        }
    }

    pub(super) fn read(&self) -> Result<KernelCounters> {
        let counters = Reader::read(&self.state_dir, |reader| self.counters(reader))?;
        Ok(counters.unwrap_or_default())
    }

    fn counters(&self, reader: &Reader) -> Result<KernelCounters> {
        let pods = reader.pods()?;
        let hits = pods.iter().map(|pod| Ok((pod.id, reader.hits(pod)?)));
        let hits = hits.collect::<Result<_>>()?;
        let (fill, health) = self.counts(reader, &pods)?;
        Ok(KernelCounters { hits, health, fill })
    }

    /// Fill of the maps and health of the pods, from the cache while that is fresh.
    fn counts(&self, reader: &Reader, pods: &[Pod]) -> Result<Counts> {
        let mut cached_counts = self
            .cached_counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = cached_counts.as_ref().filter(|cached| cached.is_fresh()) {
            return Ok((cached.fill.clone(), cached.health.clone()));
        }
        let begun = Instant::now();
        let fill = reader.fill()?;
        let ids = pods.iter().map(|pod| pod.id);
        let health: Vec<_> = ids.zip(reader.health(pods)?).collect();
        *cached_counts = Some(CachedCounts {
            fill: fill.clone(),
            health: health.clone(),
            duration: begun.elapsed(),
            counted_at: begun,
        });
        drop(cached_counts);
        Ok((fill, health))
    }
}

/// Fill of the maps, and health of the pods.
type Counts = (Vec<MapFill>, Vec<(CgroupId, Health)>);

impl CachedCounts {
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
    let name = |cgroup: CgroupId| {
        // An attachment that no known workload claims.
        let unknown = || (String::new(), format!("cgroup {cgroup}"));
        by_cgroup.get(&cgroup).map_or_else(unknown, |workload| {
            (workload.id.source.to_owned(), workload.name.clone())
        })
    };
    for (cgroup, hits) in &kernel.hits {
        let (source, workload) = name(*cgroup);
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
    describe_health(registry, &kernel.health, name);
    describe_maps(registry, &kernel.fill);
}

fn describe_health(
    registry: &mut Registry,
    health: &[(CgroupId, Health)],
    name: impl Fn(CgroupId) -> (String, String),
) {
    let missing: Family<MissingLabels, Gauge> = family(
        registry,
        "redirect_program_missing",
        "1 for each program that a workload lacks, by hook",
    );
    let foreign: Family<ForeignLabels, Gauge> = family(
        registry,
        "redirect_foreign_programs",
        "Programs of others that run for a workload at a hook, by name",
    );
    for (cgroup, health) in health {
        let (source, workload) = name(*cgroup);
        for program in &health.missing {
            let labels = MissingLabels {
                source: source.clone(),
                workload: workload.clone(),
                hook: program.hook.program(),
            };
            missing.get_or_create(&labels).set(1);
        }
        for program in &health.foreign {
            let labels = ForeignLabels {
                source: source.clone(),
                workload: workload.clone(),
                hook: program.hook.program(),
                program: program.program.clone(),
            };
            foreign.get_or_create(&labels).inc();
        }
    }
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
