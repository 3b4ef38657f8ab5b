//! This proxy's own connections, recognised when they are redirected back to it.
//!
//! Connections come back if the forwarder does not run as the proxy's user, and would go on until there are no more
//! descriptors. A connection that comes back has the source and the destination of one that was made here. Rarely, a
//! connection of the application has the same: its real source is a loopback address and only shown as the pod's, so
//! the kernel may give both the same port. Such a coincidence does not happen several times in a row, hence
//! [`DEEPEST`].

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// The number of times in a row that a connection may seem to come from this proxy.
const DEEPEST: usize = 3;

/// The source and the destination of a connection.
type Ends = (SocketAddr, SocketAddr);

/// The open connections that this proxy has made.
#[derive(Debug, Default)]
pub(crate) struct OwnConnections {
    by_ends: Mutex<HashMap<Ends, Arc<LoopTrace>>>,
}

/// The chain of this proxy's connections that led to an accepted connection.
#[derive(Debug, Default)]
pub(crate) struct LoopTrace {
    depth: usize,
    origin: Option<Arc<Self>>,
    looped: AtomicBool,
}

impl OwnConnections {
    /// Traces an accepted connection.
    pub(crate) fn trace(&self, peer: SocketAddr, destination: SocketAddr) -> Arc<LoopTrace> {
        let by_ends = self.by_ends.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = by_ends.get(&(peer, destination)).map(Arc::clone);
        drop(by_ends);
        let depth = origin
            .as_ref()
            .map_or(0, |origin| origin.depth.saturating_add(1));
        let trace = Arc::new(LoopTrace {
            depth,
            origin,
            looped: AtomicBool::new(false),
        });
        if depth > DEEPEST {
            trace.mark();
        }
        trace
    }

    /// Remembers a connection that was made for a traced one, until the guard is dropped.
    pub(crate) fn remember(
        self: &Arc<Self>,
        ends: Ends,
        trace: &Arc<LoopTrace>,
    ) -> RememberedConnection {
        let mut by_ends = self.by_ends.lock().unwrap_or_else(PoisonError::into_inner);
        by_ends.insert(ends, Arc::clone(trace));
        drop(by_ends);
        RememberedConnection {
            own_connections: Arc::clone(self),
            ends,
        }
    }
}

impl LoopTrace {
    /// Whether the connection is part of a loop. This becomes known when the loop has closed.
    pub(crate) fn is_loop(&self) -> bool {
        self.looped.load(Relaxed)
    }

    fn mark(&self) {
        self.looped.store(true, Relaxed);
        if let Some(origin) = &self.origin {
            origin.mark();
        }
    }
}

/// Forgets the connection when dropped.
#[derive(Debug)]
pub(crate) struct RememberedConnection {
    own_connections: Arc<OwnConnections>,
    ends: Ends,
}

impl Drop for RememberedConnection {
    fn drop(&mut self) {
        let mut by_ends = self
            .own_connections
            .by_ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        by_ends.remove(&self.ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_chain_is_a_loop() {
        let own = Arc::new(OwnConnections::default());
        let addr = |port| SocketAddr::from(([10, 0, 0, 2], port));
        let mut traces = vec![own.trace(addr(1), addr(80))];
        let mut guards = Vec::new();
        for port in 2..6 {
            let last = traces.last().expect("one");
            assert!(!last.is_loop());
            guards.push(own.remember((addr(port), addr(80)), last));
            traces.push(own.trace(addr(port), addr(80)));
        }
        assert!(
            traces.iter().all(|trace| trace.is_loop()),
            "the whole chain is a loop"
        );
        assert!(
            !own.trace(addr(2), addr(81)).is_loop(),
            "another destination"
        );
        drop(guards);
        assert_eq!(own.trace(addr(5), addr(80)).depth, 0, "forgotten");
    }
}
