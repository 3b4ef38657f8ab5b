//! What Prometheus is told: what the agent does, and what the programs count.
//!
//! The counters of connections are read off the maps when they are asked for, so that they are as
//! old as their workload's attachment, whatever happens to the agent.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use prometheus_client::{
    encoding::{
        EncodeLabelSet,
        text::{encode_eof, encode_registry},
    },
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Metric, Registry},
};
use redirect_common::{abi::Hits, chain::RuleId};
use redirect_user::{bpf::MapFill, node::Reader, sys::cgroup::CgroupId};

use crate::{
    outcome::State,
    plan::Action,
    source::kube::EventCounts,
    status::{Board, Told},
};

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    owner: PathBuf,
    board: Arc<Board>,
    levels: Mutex<Option<Levels>>,
    registry: Registry,
    passes: Histogram,
    failed_passes: Counter,
    actions: Family<ActionLabels, Counter>,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct ActionLabels {
    action: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct SourceLabels {
    source: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct StateLabels {
    source: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct WorkloadLabels {
    source: String,
    workload: String,
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

impl Metrics {
    /// Metrics of an owner folder, and of what the board says.
    pub fn new(owner: &Path, board: Arc<Board>, events: &EventCounts) -> Self {
        let mut registry = Registry::default();
        let passes = Histogram::new(exponential_buckets(0.001, 4.0, 8));
        let failed_passes = Counter::default();
        let actions = Family::<ActionLabels, Counter>::default();
        for action in Action::ALL.into_iter().filter(|action| action.is_change()) {
            for result in ["ok", "error"] {
                drop(actions.get_or_create(&labels(action, result)));
            }
        }
        registry.register(
            "redirect_agent_build",
            "The version of the agent",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(
            "redirect_agent_reconcile_duration_seconds",
            "How long it took to look, plan and act",
            passes.clone(),
        );
        registry.register(
            "redirect_agent_reconcile_errors",
            "Reconciles that could not even look",
            failed_passes.clone(),
        );
        registry.register(
            "redirect_agent_actions",
            "What was done to workloads, and whether it failed",
            actions.clone(),
        );
        events.register(&mut registry);
        Self {
            owner: owner.to_owned(),
            board,
            levels: Mutex::default(),
            registry,
            passes,
            failed_passes,
            actions,
        }
    }

    /// A reconcile took this long.
    pub fn passed(&self, seconds: f64) {
        self.passes.observe(seconds);
    }

    /// A reconcile could not look.
    pub fn failed(&self) {
        self.failed_passes.inc();
    }

    /// Something was attempted.
    pub fn acted(&self, action: Action, is_ok: bool) {
        let result = if is_ok { "ok" } else { "error" };
        self.actions.get_or_create(&labels(action, result)).inc();
    }

    /// Everything, in the text format of `OpenMetrics`. It waits for the owner folder's lock.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let told = self.board.read();
        let mut now = Registry::default();
        describe_board(&mut now, &told);
        let kernel = self.read_kernel();
        let is_read = Gauge::<i64>::default();
        is_read.set(i64::from(kernel.is_ok()));
        now.register(
            "redirect_agent_maps_readable",
            "Whether the counters below could be read",
            is_read,
        );
        describe_kernel(&mut now, &told, &kernel.unwrap_or_default());
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &now)?;
        encode_eof(&mut text)?;
        Ok(text)
    }

    fn read_kernel(&self) -> Result<Kernel> {
        let Some(reader) = Reader::open(&self.owner)? else {
            return Ok(Kernel::default());
        };
        let pods = reader.pods()?;
        let hits = pods.iter().map(|pod| Ok((pod.id, reader.hits(pod)?)));
        Ok(Kernel {
            hits: hits.collect::<Result<_>>()?,
            fill: self.fill(&reader)?,
        })
    }

    /// How full the maps are: as counted before, if that took long and was not long ago.
    fn fill(&self, reader: &Reader) -> Result<Vec<MapFill>> {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = levels.as_ref().filter(|known| known.is_fresh()) {
            return Ok(known.fill.clone());
        }
        let begun = Instant::now();
        let fill = reader.fill()?;
        *levels = Some(Levels {
            fill: fill.clone(),
            taken: begun.elapsed(),
            since: begun,
        });
        drop(levels);
        Ok(fill)
    }
}

const fn labels(action: Action, result: &'static str) -> ActionLabels {
    ActionLabels {
        action: action.name(),
        result,
    }
}

/// A metric that is registered.
fn family<T: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> T {
    let family = T::default();
    registry.register(name, help, family.clone());
    family
}

/// What the agent knows of sources and workloads.
fn describe_board(registry: &mut Registry, told: &Told) {
    let up: Family<SourceLabels, Gauge> = family(
        registry,
        "redirect_agent_source_up",
        "Whether the source can be asked",
    );
    let count: Family<StateLabels, Gauge> = family(
        registry,
        "redirect_agent_workloads",
        "Workloads by state: attached, waiting, refused, failed",
    );
    if let Some((source, trouble)) = &told.source {
        up.get_or_create(&SourceLabels { source })
            .set(i64::from(trouble.is_none()));
        for state in State::ALL {
            drop(count.get_or_create(&StateLabels {
                source,
                state: state.name(),
            }));
        }
    }
    let in_error: Family<WorkloadLabels, Gauge> = family(
        registry,
        "redirect_agent_workload_error",
        "1 for each workload that is refused or failed; the log says why",
    );
    for workload in &told.workloads {
        let (source, state) = (workload.id.source, workload.state);
        count
            .get_or_create(&StateLabels {
                source,
                state: state.name(),
            })
            .inc();
        if matches!(state, State::Refused | State::Failed) {
            let labels = WorkloadLabels {
                source: source.to_owned(),
                workload: workload.name.clone(),
            };
            in_error.get_or_create(&labels).set(1);
        }
    }
}

/// What the kernel has.
#[derive(Debug, Default)]
struct Kernel {
    hits: Vec<(CgroupId, Hits)>,
    fill: Vec<MapFill>,
}

/// The entries of maps have to be counted one by one: it must not be done again before this many times
/// as long has passed, whoever scrapes how often.
const REST: u32 = 100;

/// How full the maps were found to be.
#[derive(Debug)]
struct Levels {
    fill: Vec<MapFill>,
    /// How long it took to count.
    taken: Duration,
    since: Instant,
}

impl Levels {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < self.taken.saturating_mul(REST)
    }
}

fn describe_kernel(registry: &mut Registry, told: &Told, kernel: &Kernel) {
    let connections: Family<RuleLabels, Counter> = family(
        registry,
        "redirect_connections",
        "Connections decided, by rule and verdict; rules that never matched are left out",
    );
    let lost: Family<WorkloadLabels, Counter> = family(
        registry,
        "redirect_original_destination_lost",
        "Connections whose proxy could not be told the original destination: FLOWS was full",
    );
    let refused: Family<WorkloadLabels, Counter> = family(
        registry,
        "redirect_record_failed",
        "Connections refused because there was no memory to record their destination",
    );
    let owners: BTreeMap<CgroupId, _> = told
        .workloads
        .iter()
        .filter_map(|workload| Some((workload.cgroup?, workload)))
        .collect();
    for (cgroup, hits) in &kernel.hits {
        // What is still attached although no workload is known to want it.
        let unknown = || (String::new(), format!("cgroup {cgroup}"));
        let (source, workload) = owners.get(cgroup).map_or_else(unknown, |workload| {
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
        "Entries in a map that all workloads share",
    );
    let capacity: Family<MapLabels, Gauge> = family(
        registry,
        "redirect_map_capacity",
        "Entries that the map has room for",
    );
    for level in fill {
        let map = level.map.name();
        let count = i64::try_from(level.entries).unwrap_or(i64::MAX);
        entries.get_or_create(&MapLabels { map }).set(count);
        let room = i64::from(level.capacity);
        capacity.get_or_create(&MapLabels { map }).set(room);
    }
}
