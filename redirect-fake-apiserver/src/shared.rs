// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cluster, shared by the test and the server's tasks, with a notification of each change.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::cluster::Cluster;

/// The state of one server.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    cluster: Mutex<Cluster>,
    /// The number of changes so far. Watches wait for the next one.
    changes: watch::Sender<u64>,
}

impl Shared {
    /// Locks the cluster.
    pub(crate) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        let cluster = self.cluster.lock();
        cluster.unwrap_or_else(PoisonError::into_inner)
    }

    /// Notifies watches of a change.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Subscribes to later changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
