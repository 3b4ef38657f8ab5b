// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connections that a server has accepted, counted.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

/// What a server has accepted so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedCounts {
    /// Connections, or datagrams.
    pub connections: u64,
    /// Those with an original destination that is not the server's own address: redirected ones.
    /// With [`Behaviour::ProxyProtocol`], those of a proxy.
    pub redirected: u64,
    /// With [`Behaviour::ProxyProtocol`], those that ended, or are open, before anybody has said a word.
    pub silent: u64,
}

impl AcceptedCounts {
    /// With [`Behaviour::ProxyProtocol`], those of no proxy.
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

    /// One more, of which it is not known yet.
    pub(super) fn add_silent(&self) {
        self.silent.fetch_add(1, Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// It has spoken.
    pub(super) fn heard(&self, is_redirected: bool) {
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
