//! The state that the tasks of one proxy share: the mode, the proxy's own connections, and the ledger.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use tokio::net::TcpStream;

use super::{
    origin::original_destination,
    own_connections::OwnConnections,
    record::{Ending, Record},
    registry::Registry,
};

/// The destinations that are forwarded to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All destinations, as in Istio's `ALLOW_ANY`.
    AllowAny,
    /// Registered destinations; other connections are blackholed, as in Istio's `REGISTRY_ONLY`.
    RegistryOnly(Registry),
}

/// The number of connections with each ending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// See [`Ending::Forwarded`].
    pub forwarded: u64,
    /// See [`Ending::Blackholed`].
    pub blackholed: u64,
    /// See [`Ending::Refused`].
    pub refused: u64,
    /// See [`Ending::Loop`].
    pub loops: u64,
    /// See [`Ending::Unknown`].
    pub unknown: u64,
}

/// The source of original destinations.
type Origin = Box<dyn Fn(&TcpStream) -> io::Result<SocketAddr> + Send + Sync>;
/// The receiver of log records.
type Log = Box<dyn FnMut(&Record) + Send>;

/// The state that every connection needs.
pub(crate) struct Shared {
    pub(crate) mode: Mode,
    pub(crate) origin: Origin,
    pub(crate) own_connections: Arc<OwnConnections>,
    ledger: Mutex<Ledger>,
}

/// The log, and the totals of the connections so far.
struct Ledger {
    log: Log,
    totals: Totals,
}

impl Ledger {
    fn new(log: Log) -> Self {
        Self {
            log,
            totals: Totals::default(),
        }
    }

    fn add(&mut self, record: &Record) {
        let totals = &mut self.totals;
        let count = match record.ending {
            Ending::Forwarded => &mut totals.forwarded,
            Ending::Blackholed => &mut totals.blackholed,
            Ending::Refused => &mut totals.refused,
            Ending::Loop => &mut totals.loops,
            Ending::Unknown => &mut totals.unknown,
        };
        *count = count.saturating_add(1);
        (self.log)(record);
    }
}

impl Shared {
    /// Makes the state of a proxy that calls `log` at the end of every connection.
    pub(crate) fn new(mode: Mode, log: impl FnMut(&Record) + Send + 'static) -> Self {
        Self {
            mode,
            origin: Box::new(original_destination),
            own_connections: Arc::default(),
            ledger: Mutex::new(Ledger::new(Box::new(log))),
        }
    }

    /// Logs and counts a connection that has ended.
    pub(crate) fn add(&self, record: &Record) {
        self.ledger().add(record);
    }

    /// The totals of the connections so far.
    pub(crate) fn totals(&self) -> Totals {
        self.ledger().totals
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
