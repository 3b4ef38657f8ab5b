//! Families of metrics, and the labels that several of them have.

use prometheus_client::{
    encoding::EncodeLabelSet,
    registry::{Metric, Registry},
};

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub(super) struct WorkloadLabels {
    pub(super) source: String,
    pub(super) workload: String,
}

/// A metric that is registered.
pub(super) fn family<T: Metric + Clone + Default>(
    registry: &mut Registry,
    name: &str,
    help: &str,
) -> T {
    let family = T::default();
    registry.register(name, help, family.clone());
    family
}
