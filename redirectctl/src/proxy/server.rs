//! Listening and accepting.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use super::{
    connection::handle,
    made::Made,
    origin::original_destination,
    record::{Record, Verdict},
    registry::Registry,
};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long open connections may go on once the proxy is told to stop.
const GRACE: Duration = Duration::from_secs(2);

/// Which destinations are forwarded to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All, as Istio's `ALLOW_ANY`.
    AllowAny,
    /// Registered ones; the others are blackholed, as Istio's `REGISTRY_ONLY`.
    RegistryOnly(Registry),
}

/// How many connections got which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// See [`Verdict::Forwarded`].
    pub forwarded: u64,
    /// See [`Verdict::Blackholed`].
    pub blackholed: u64,
    /// See [`Verdict::Refused`].
    pub refused: u64,
    /// See [`Verdict::Loop`].
    pub loops: u64,
    /// See [`Verdict::Unknown`].
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
    pub(crate) made: Arc<Made>,
    pub(crate) book: Mutex<Book>,
}

/// What became of the connections so far.
pub(crate) struct Book {
    log: Log,
    totals: Totals,
}

impl Book {
    pub(crate) fn enter(&mut self, record: &Record) {
        let totals = &mut self.totals;
        let count = match record.verdict {
            Verdict::Forwarded => &mut totals.forwarded,
            Verdict::Blackholed => &mut totals.blackholed,
            Verdict::Refused => &mut totals.refused,
            Verdict::Loop => &mut totals.loops,
            Verdict::Unknown => &mut totals.unknown,
        };
        *count = count.saturating_add(1);
        (self.log)(record);
    }
}

/// The forwarder.
pub struct Proxy {
    shared: Shared,
    grace: Duration,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shared, grace } = self;
        f.debug_struct("Proxy")
            .field("mode", &shared.mode)
            .field("grace", grace)
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// A proxy that tells `log` of every connection when it is over.
    pub fn new(mode: Mode, log: impl FnMut(&Record) + Send + 'static) -> Self {
        let shared = Shared {
            mode,
            origin: Box::new(original_destination),
            made: Arc::default(),
            book: Mutex::new(Book {
                log: Box::new(log),
                totals: Totals::default(),
            }),
        };
        Self {
            shared,
            grace: GRACE,
        }
    }

    /// Asks `origin` instead of the kernel where a connection was going.
    #[must_use]
    pub fn with_origin(
        mut self,
        origin: impl Fn(&TcpStream) -> io::Result<SocketAddr> + Send + Sync + 'static,
    ) -> Self {
        self.shared.origin = Box::new(origin);
        self
    }

    /// How long open connections may go on after a stop.
    #[must_use]
    pub const fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Serves until `stop` is ready; then accepts no more, lets open connections finish for a
    /// short time, and cuts off the rest.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send,
    ) -> io::Result<Totals> {
        let Self { shared, grace } = self;
        let shared = Arc::new(shared);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut connections = JoinSet::new();
        let mut full = false;
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => full = false,
                accepted = listener.accept(), if !full => match accepted {
                    Ok((peer, from)) => {
                        connections.spawn(handle(Arc::clone(&shared), peer, from));
                    }
                    Err(error) if is_about_the_peer(&error) => {}
                    // No descriptors or memory: go on when a connection has ended.
                    Err(_) if !connections.is_empty() => full = true,
                    Err(error) => return Err(error),
                },
            }
        }
        drop(listener);
        let finish = async { while connections.join_next().await.is_some() {} };
        if timeout(grace, finish).await.is_err() {
            connections.shutdown().await;
        }
        let totals = shared
            .book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .totals;
        Ok(totals)
    }
}

/// Whether accepting failed for one connection only; `accept` passes on what happened to it.
fn is_about_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
        PermissionDenied,
    };
    [
        ConnectionAborted,
        HostUnreachable,
        Interrupted,
        NetworkDown,
        NetworkUnreachable,
        PermissionDenied,
    ]
    .contains(&error.kind())
}

/// Listens on `[::]:port` for both families, or on `0.0.0.0:port` where there is no IPv6.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    let bind = |domain, address: SocketAddr| -> io::Result<TcpListener> {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    match bind(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            bind(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into())
        }
        other => other,
    }
}
