//! The metrics of the agent: its own, those of the workloads, and the counters of the programs.
//!
//! The counters of connections are read from the maps at each scrape. They count since their workload was
//! attached, and survive the agent.

use std::{fmt, path::Path, sync::Arc};

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
    registry::Registry,
};

use super::{
    kernel::{KernelReader, describe_kernel},
    workloads::describe_status,
};
use crate::{plan::Action, source::kube::EventCounts, status::StatusStore};

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    kernel: KernelReader,
    status: Arc<StatusStore>,
    registry: Registry,
    pass_duration: Histogram,
    failed_passes: Counter,
    actions: Family<ActionLabels, Counter>,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct ActionLabels {
    action: &'static str,
    result: &'static str,
}

impl Metrics {
    /// Metrics of a state directory and of a status.
    pub fn new(state_dir: &Path, status: Arc<StatusStore>, events: &EventCounts) -> Self {
        let mut registry = Registry::default();
        let pass_duration = Histogram::new(exponential_buckets(0.001, 4.0, 8));
        let failed_passes = Counter::default();
        let actions = Family::<ActionLabels, Counter>::default();
        for action in Action::ALL.into_iter().filter(|action| action.is_change()) {
            for result in ["ok", "error"] {
                drop(actions.get_or_create(&labels(action, result)));
            }
        }
        registry.register(
            "redirect_agent_build",
            "Version of the agent",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(
            "redirect_agent_reconcile_duration_seconds",
            "Duration of a reconcile: locate, plan and execute",
            pass_duration.clone(),
        );
        registry.register(
            "redirect_agent_reconcile_errors",
            "Reconciles that failed before they had a plan",
            failed_passes.clone(),
        );
        registry.register(
            "redirect_agent_actions",
            "Actions on workloads, by action and result",
            actions.clone(),
        );
        events.register(&mut registry);
        Self {
            kernel: KernelReader::new(state_dir),
            status,
            registry,
            pass_duration,
            failed_passes,
            actions,
        }
    }

    /// Records the duration of a pass.
    pub fn observe_pass(&self, seconds: f64) {
        self.pass_duration.observe(seconds);
    }

    /// Counts a pass that could not even plan.
    pub fn count_failed_pass(&self) {
        self.failed_passes.inc();
    }

    /// Counts an attempted action.
    pub fn count_action(&self, action: Action, is_ok: bool) {
        let result = if is_ok { "ok" } else { "error" };
        self.actions.get_or_create(&labels(action, result)).inc();
    }

    /// All metrics, in the text format of `OpenMetrics`.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let snapshot = self.status.snapshot();
        let mut current = Registry::default();
        describe_status(&mut current, &snapshot);
        let kernel = self.kernel.read();
        let is_read = Gauge::<i64>::default();
        is_read.set(i64::from(kernel.is_ok()));
        current.register(
            "redirect_agent_maps_readable",
            "Whether the counters of connections could be read",
            is_read,
        );
        describe_kernel(&mut current, &snapshot, &kernel.unwrap_or_default());
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &current)?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

const fn labels(action: Action, result: &'static str) -> ActionLabels {
    ActionLabels {
        action: action.name(),
        result,
    }
}
