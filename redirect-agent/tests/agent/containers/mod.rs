//! The agent and its plugin on a node with a real container runtime.

mod changes;
mod churn;
pub(crate) mod mesh;
pub(crate) mod mesh_pod;
mod tests;
mod versions;

use std::time::Duration;

use redirect_testkit::{Envoy, node::Node};

pub(crate) use self::tests::{CASES, SOAKS};

/// Longer than any wait of these tests.
const LONG: Duration = Duration::from_mins(1);

/// Prints the progress of a test.
type Say = fn(&str);

/// Why these tests cannot run, if that is so.
pub(crate) fn missing() -> Option<String> {
    let envoy = || Envoy::binary().err().map(|error| format!("{error:#}"));
    Node::missing().or_else(envoy)
}
