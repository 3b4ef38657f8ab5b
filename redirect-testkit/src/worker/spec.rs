// SPDX-License-Identifier: MIT OR Apache-2.0
//! The specification of a worker: its identity, and the listeners that it makes while it is set up.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{flows::FlowListeners, identity::Identity};

/// The specification of a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WorkerSpec {
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) namespace: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) listeners: Option<FlowListeners>,
}

impl WorkerSpec {
    pub(crate) fn new(cgroup: Option<PathBuf>, namespace: &str, identity: &Identity) -> Self {
        Self {
            cgroup,
            namespace: namespace.to_owned(),
            uid: identity.uid,
            gid: identity.gid,
            groups: identity.groups.clone(),
            listeners: None,
        }
    }

    /// Adds listeners.
    pub(crate) fn listeners(mut self, listeners: FlowListeners) -> Self {
        self.listeners = Some(listeners);
        self
    }
}
