//! The agent and its plugin on a node with a real kubelet, which a real API server controls.

mod cluster;
mod daemonset;
mod program;
mod tests;

pub(crate) use self::tests::SOAKS;
