// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cluster, and the news that it has changed: shared by the test and the server's tasks.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::cluster::Cluster;

/// The state of one server.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    cluster: Mutex<Cluster>,
    /// Counts the changes of the cluster.
    changes: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        let cluster = self.cluster.lock();
        cluster.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Sees changes from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
