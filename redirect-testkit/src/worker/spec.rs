// SPDX-License-Identifier: MIT OR Apache-2.0
//! The start of a worker: who it becomes, and the sockets that it makes on the way.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{flows::FlowListeners, identity::Identity};

/// What a new worker does before it listens to commands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WorkerSpec {
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) namespace: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) listening: Option<FlowListeners>,
}

impl WorkerSpec {
    pub(crate) fn new(cgroup: Option<PathBuf>, namespace: &str, identity: &Identity) -> Self {
        Self {
            cgroup,
            namespace: namespace.to_owned(),
            uid: identity.uid,
            gid: identity.gid,
            groups: identity.groups.clone(),
            listening: None,
        }
    }

    /// The same, with listeners made on the way.
    pub(crate) fn listening(mut self, listening: FlowListeners) -> Self {
        self.listening = Some(listening);
        self
    }
}
