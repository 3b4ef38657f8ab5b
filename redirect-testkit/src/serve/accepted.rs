// SPDX-License-Identifier: MIT OR Apache-2.0
//! The counts of connections that a server has accepted.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

/// The connections that a server has accepted so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedCounts {
    /// All connections, or datagrams.
    pub connections: u64,
    /// Redirected connections: their original destination is not the server's own address. With
    /// [`crate::Behaviour::ProxyProtocol`], connections of a proxy.
    pub redirected: u64,
    /// With [`crate::Behaviour::ProxyProtocol`], connections on which the client has sent nothing, open or closed.
    pub silent: u64,
}

impl AcceptedCounts {
    /// With [`crate::Behaviour::ProxyProtocol`], connections that no proxy made.
    pub const fn direct(&self) -> u64 {
        self.connections - self.redirected - self.silent
    }
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    connections: AtomicU64,
    redirected: AtomicU64,
    silent: AtomicU64,
}

impl Counts {
    pub(super) fn add(&self, local: Option<SocketAddr>, orig_dst: Option<SocketAddr>) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        if orig_dst.is_some() && orig_dst != local {
            self.redirected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds a connection on which the client has sent nothing yet.
    pub(super) fn add_silent(&self) {
        self.silent.fetch_add(1, Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Moves a silent connection to those on which the client has sent something.
    pub(super) fn add_heard(&self, is_redirected: bool) {
        self.redirected
            .fetch_add(u64::from(is_redirected), Ordering::Relaxed);
        self.silent.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn accepted(&self) -> AcceptedCounts {
        AcceptedCounts {
            connections: self.connections.load(Ordering::Relaxed),
            redirected: self.redirected.load(Ordering::Relaxed),
            silent: self.silent.load(Ordering::Relaxed),
        }
    }
}
