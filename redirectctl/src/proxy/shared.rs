//! What the tasks of one proxy share: the mode, the connections that it has made, and the ledger.

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

/// Which destinations are forwarded to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All, as Istio's `ALLOW_ANY`.
    AllowAny,
    /// Registered ones; the others are blackholed, as Istio's `REGISTRY_ONLY`.
    RegistryOnly(Registry),
}

/// How many connections got which ending.
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

/// Where a connection was going.
type Origin = Box<dyn Fn(&TcpStream) -> io::Result<SocketAddr> + Send + Sync>;
/// Who is told of a connection.
type Log = Box<dyn FnMut(&Record) + Send>;

/// What every connection needs.
pub(crate) struct Shared {
    pub(crate) mode: Mode,
    pub(crate) origin: Origin,
    pub(crate) made: Arc<OwnConnections>,
    ledger: Mutex<Ledger>,
}

/// What became of the connections so far.
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

    fn enter(&mut self, record: &Record) {
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
    /// For a proxy that tells `log` of every connection when it is over.
    pub(crate) fn new(mode: Mode, log: impl FnMut(&Record) + Send + 'static) -> Self {
        Self {
            mode,
            origin: Box::new(original_destination),
            made: Arc::default(),
            ledger: Mutex::new(Ledger::new(Box::new(log))),
        }
    }

    /// Enters a connection that is over.
    pub(crate) fn enter(&self, record: &Record) {
        self.ledger().enter(record);
    }

    /// The connections so far.
    pub(crate) fn totals(&self) -> Totals {
        self.ledger().totals
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
