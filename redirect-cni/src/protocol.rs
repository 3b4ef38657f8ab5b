//! The protocol between the plugin and the agent: one request and one response for each connection, a line of JSON
//! each.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Version of this protocol. The agent refuses requests of another version.
pub const PROTOCOL: u32 = 1;
/// Longest line, in bytes.
pub const MAX_LINE: u64 = 1 << 20;

/// Name of a pod in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRef {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Uid of the pod, if the runtime passes it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<String>,
}

/// A pod sandbox that a runtime has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRef {
    /// Container id that the runtime has given the sandbox.
    pub container_id: String,
    /// Network namespace of the sandbox, unless that is gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub netns: Option<PathBuf>,
    /// Pod that the sandbox is for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<PodRef>,
}

/// The line that the plugin writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginRequest {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The operation.
    #[serde(flatten)]
    pub operation: Operation,
}

/// A CNI operation that the plugin asks the agent for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "UPPERCASE")]
pub enum Operation {
    /// Attach the pod of a sandbox if it is in the mesh, and respond when that is done.
    Add(SandboxRef),
    /// Check that the pod of a sandbox is still attached as described.
    Check(SandboxRef),
    /// Forget a sandbox. An unknown one is not an error.
    Del(SandboxRef),
    /// Forget all sandboxes but these.
    Gc {
        /// Container ids of the sandboxes that there are.
        valid: Vec<String>,
    },
    /// Check that pods can be added.
    Status,
}

/// The line that the agent writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Response {
    /// The operation is done, or the check holds.
    Done,
    /// The pod is not in the mesh, and is left alone.
    Skipped {
        /// Why the pod is not in the mesh.
        reason: String,
    },
    /// The operation failed.
    Failed {
        /// The problem, its place, and the remedy.
        reason: String,
        /// Whether the same request may succeed a moment later.
        retry: bool,
    },
}
