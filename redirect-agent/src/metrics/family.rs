//! Families of metrics, and the labels that several of them share.

use prometheus_client::{
    encoding::EncodeLabelSet,
    registry::{Metric, Registry},
};

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub(super) struct WorkloadLabels {
    pub(super) source: String,
    pub(super) workload: String,
}

/// Registers a new metric.
pub(super) fn family<T: Metric + Clone + Default>(
    registry: &mut Registry,
    name: &str,
    help: &str,
) -> T {
    let family = T::default();
    registry.register(name, help, family.clone());
    family
}
