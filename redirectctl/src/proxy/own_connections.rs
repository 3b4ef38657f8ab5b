//! Recognising this proxy's own connections when they are redirected back to it.
//!
//! That happens where it does not run as the proxy's user, and would go on until there are no more
//! descriptors. A connection that comes back has the source and the destination of one that was
//! made here. So may, rarely, an application's: its real source is a loopback address and only
//! shown as the pod's, so the kernel may give both the same port. An application's connection is
//! never mistaken several times in a row, hence [`DEEPEST`].

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// How many times in a row a connection may seem to come from this proxy.
const DEEPEST: usize = 3;

/// A connection's own address and its destination.
type Ends = (SocketAddr, SocketAddr);

/// The connections this proxy has made.
#[derive(Debug, Default)]
pub(crate) struct OwnConnections {
    by_ends: Mutex<HashMap<Ends, Arc<LoopTrace>>>,
}

/// Where an accepted connection comes from.
#[derive(Debug, Default)]
pub(crate) struct LoopTrace {
    depth: usize,
    origin: Option<Arc<Self>>,
    looped: AtomicBool,
}

impl OwnConnections {
    /// Traces an accepted connection.
    pub(crate) fn trace(&self, peer: SocketAddr, destination: SocketAddr) -> Arc<LoopTrace> {
        let made = self.by_ends.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = made.get(&(peer, destination)).map(Arc::clone);
        drop(made);
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

    /// Remembers a connection, made for a traced one, until the guard is dropped.
    pub(crate) fn remember(self: &Arc<Self>, ends: Ends, trace: &Arc<LoopTrace>) -> Remembered {
        let mut made = self.by_ends.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(ends, Arc::clone(trace));
        drop(made);
        Remembered {
            made: Arc::clone(self),
            ends,
        }
    }
}

impl LoopTrace {
    /// Whether it is part of a loop; a connection learns it when the loop has closed.
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
pub(crate) struct Remembered {
    made: Arc<OwnConnections>,
    ends: Ends,
}

impl Drop for Remembered {
    fn drop(&mut self) {
        let mut made = self
            .made
            .by_ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        made.remove(&self.ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_chain_is_a_loop() {
        let made = Arc::new(OwnConnections::default());
        let addr = |port| SocketAddr::from(([10, 0, 0, 2], port));
        let mut traces = vec![made.trace(addr(1), addr(80))];
        let mut guards = Vec::new();
        for port in 2..6 {
            let last = traces.last().expect("one");
            assert!(!last.is_loop());
            guards.push(made.remember((addr(port), addr(80)), last));
            traces.push(made.trace(addr(port), addr(80)));
        }
        assert!(
            traces.iter().all(|trace| trace.is_loop()),
            "the whole chain is"
        );
        assert!(
            !made.trace(addr(2), addr(81)).is_loop(),
            "another destination"
        );
        drop(guards);
        assert_eq!(made.trace(addr(5), addr(80)).depth, 0, "forgotten");
    }
}
