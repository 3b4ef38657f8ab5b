//! One connection, from its acceptance to its record.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpStream, time::timeout};

use super::{
    origin::canonical,
    own_connections::{LoopTrace, RememberedConnection},
    record::{Ending, Record},
    relay::{Copied, relay},
    shared::{Mode, Shared},
};

/// The time that a destination has to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The ending of a connection that was closed before anything was copied, and the reason.
type Closed = (Ending, String);

/// Handles an accepted connection, and logs it exactly once, also if the task is dropped before the end.
pub(crate) async fn handle(shared: Arc<Shared>, peer: TcpStream, from: SocketAddr) {
    let mut log = LogOnDrop {
        shared: Arc::clone(&shared),
        copied: Copied::default(),
        trace: Arc::default(),
        record: Record {
            ending: Ending::Unknown,
            peer: canonical(from),
            original_destination: None,
            sent: 0,
            received: 0,
            reason: Some("stopped".to_owned()),
        },
    };
    let upstream = match open(&shared, &peer, &mut log).await {
        Ok(upstream) => upstream,
        Err((ending, reason)) => {
            // The connection closes before its record is written.
            drop(peer);
            log.record.ending = ending;
            log.record.reason = Some(reason);
            return;
        }
    };
    log.record.ending = Ending::Forwarded;
    let outcome = relay(peer, upstream.stream, &log.copied).await;
    log.record.reason = outcome.err().map(|error| format!("copy: {error}"));
}

/// The reason to close a connection that came from this proxy.
fn loop_reason(destination: Option<SocketAddr>) -> String {
    // A socket can be bound to a local address only.
    let is_local = destination
        .is_some_and(|to| !to.ip().is_unspecified() && UdpSocket::bind((to.ip(), 0)).is_ok());
    let remedy = if is_local {
        "connections of the proxy's user (-u) to its own pod are redirected: run the forwarder as another user, such as --uid 0"
    } else {
        "run the forwarder as the proxy's user (-u)"
    };
    format!("the forwarder's own connections come back: {remedy}")
}

/// Decides about a connection, and connects to its original destination.
async fn open(
    shared: &Arc<Shared>,
    peer: &TcpStream,
    log: &mut LogOnDrop,
) -> Result<Upstream, Closed> {
    let unknown = |cause: io::Error| (Ending::Unknown, format!("read SO_ORIGINAL_DST: {cause}"));
    let destination = canonical((shared.origin)(peer).map_err(unknown)?);
    log.record.original_destination = Some(destination);
    if peer
        .local_addr()
        .is_ok_and(|local| canonical(local) == destination)
    {
        return Err((Ending::Loop, "dialled directly, not redirected".to_owned()));
    }
    log.trace = shared.own_connections.trace(log.record.peer, destination);
    if log.trace.is_loop() {
        return Err((Ending::Loop, loop_reason(Some(destination))));
    }
    if let Mode::RegistryOnly(registry) = &shared.mode
        && !registry.contains(destination)
    {
        return Err((Ending::Blackholed, "not registered".to_owned()));
    }
    // The ending of the record if the proxy is stopped while it connects.
    log.record.ending = Ending::Refused;
    let refused = |cause: io::Error| (Ending::Refused, format!("connect: {cause}"));
    timeout(
        CONNECT_TIMEOUT,
        Upstream::connect(shared, destination, &log.trace),
    )
    .await
    .map_err(|_elapsed| refused(io::ErrorKind::TimedOut.into()))?
    .map_err(refused)
}

/// A connection to a destination, remembered as one of this proxy's while it is open.
struct Upstream {
    stream: TcpStream,
    _guard: RememberedConnection,
}

impl Upstream {
    /// Connects. The connection is remembered before the handshake ends, so that it is recognised if this proxy accepts
    /// it.
    async fn connect(
        shared: &Arc<Shared>,
        destination: SocketAddr,
        trace: &Arc<LoopTrace>,
    ) -> io::Result<Self> {
        let domain = Domain::for_address(destination);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&destination.into()) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => {
                return Err(error);
            }
            Ok(()) | Err(_) => {}
        }
        let stream = TcpStream::from_std(socket.into())?;
        let ends = (canonical(stream.local_addr()?), destination);
        let guard = shared.own_connections.remember(ends, trace);
        stream.writable().await?;
        stream.take_error()?.map_or(Ok(()), Err)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            _guard: guard,
        })
    }
}

struct LogOnDrop {
    shared: Arc<Shared>,
    copied: Copied,
    trace: Arc<LoopTrace>,
    record: Record,
}

impl Drop for LogOnDrop {
    fn drop(&mut self) {
        self.record.sent = self.copied.sent.load(Relaxed);
        self.record.received = self.copied.received.load(Relaxed);
        if self.trace.is_loop() {
            self.record.ending = Ending::Loop;
            self.record.reason = Some(loop_reason(self.record.original_destination));
        }
        self.shared.add(&self.record);
    }
}
