//! Metrics of the source and of the workloads.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use super::family::{WorkloadLabels, family};
use crate::{
    outcome::State,
    status::{SourceStatus, StatusSnapshot},
};

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct SourceLabels {
    source: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct StateLabels {
    source: &'static str,
    state: &'static str,
}

/// Adds the metrics of a status.
pub(super) fn describe_status(registry: &mut Registry, snapshot: &StatusSnapshot) {
    let up: Family<SourceLabels, Gauge> = family(
        registry,
        "redirect_agent_source_up",
        "Whether the source is available",
    );
    let count: Family<StateLabels, Gauge> = family(
        registry,
        "redirect_agent_workloads",
        "Workloads by state: attached, waiting, refused, failed",
    );
    if let Some(SourceStatus {
        name: source,
        unavailable,
    }) = &snapshot.source
    {
        up.get_or_create(&SourceLabels { source })
            .set(i64::from(unavailable.is_none()));
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
    for workload in &snapshot.workloads {
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
