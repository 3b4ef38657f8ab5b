//! The agent and its plugin on a node with a real kubelet, which a real API server tells what to run.

mod cluster;
mod daemonset;
mod program;
mod tests;

pub(crate) use self::tests::SOAKS;
