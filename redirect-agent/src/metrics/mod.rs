//! The metrics of the agent.

mod exporter;
mod family;
mod kernel;
mod workloads;

pub use self::exporter::Metrics;
