//! What plugin and agent say to each other: a line of JSON each, one question and one answer for a
//! connection.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The version of this protocol. The agent refuses a question of another one.
pub const PROTOCOL: u32 = 1;
/// The longest line, in bytes.
pub const MAX_LINE: u64 = 1 << 20;

/// A pod's name in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, if the runtime says it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<String>,
}

/// A sandbox that a runtime has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The runtime's name for it.
    pub container_id: String,
    /// Its network namespace, unless that is gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub netns: Option<PathBuf>,
    /// The pod it is made for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<PodRef>,
}

/// The plugin's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// What is asked.
    #[serde(flatten)]
    pub ask: Ask,
}

/// What a plugin asks of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// Redirect this pod, if it is in the mesh, and answer when it is done.
    Add(Sandbox),
    /// Is it as it should be?
    Check(Sandbox),
    /// It goes. Not an error if it is not known.
    Del(Sandbox),
    /// There are no sandboxes but these, by the runtime's names.
    Gc {
        /// The names.
        valid: Vec<String>,
    },
    /// Can pods be added?
    Status,
}

/// The agent's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// What was asked for is done, or holds.
    Done,
    /// The pod is none of the mesh's.
    NotOurs {
        /// Why not.
        reason: String,
    },
    /// It cannot be done.
    Failed {
        /// What is wrong, where, and what to do about it.
        reason: String,
        /// Whether the same question may succeed a moment later.
        again: bool,
    },
}
