//! What Prometheus is told: what the agent does, and what the programs count.

mod exporter;
mod family;
mod kernel;
mod workloads;

pub use self::exporter::Metrics;
