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
    own_connections::{LoopTrace, Remembered},
    record::{Ending, Record},
    relay::{Copied, relay},
    shared::{Mode, Shared},
};

/// How long a destination has to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a connection is over before anything was copied.
type Closed = (Ending, String);

/// Handles an accepted connection, and logs it once, however it ends: also when the task is
/// dropped in the middle.
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
            // The connection is closed before its record is written.
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

/// Why a connection is closed that came from this proxy.
fn comes_back(destination: Option<SocketAddr>) -> String {
    // An address can be bound to where it is this machine's, and only there.
    let is_own = destination
        .is_some_and(|to| !to.ip().is_unspecified() && UdpSocket::bind((to.ip(), 0)).is_ok());
    let remedy = if is_own {
        "what the proxy's user (-u) dials in its own pod is redirected: run it as another one, such as --uid 0"
    } else {
        "run it as the proxy's user (-u)"
    };
    format!("the proxy's own connections come back: {remedy}")
}

/// Decides, and connects to the original destination.
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
    log.trace = shared.made.trace(log.record.peer, destination);
    if log.trace.is_loop() {
        return Err((Ending::Loop, comes_back(Some(destination))));
    }
    if let Mode::RegistryOnly(registry) = &shared.mode
        && !registry.contains(destination)
    {
        return Err((Ending::Blackholed, "not registered".to_owned()));
    }
    // If the proxy is stopped while it connects, this is what the record says.
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

/// A connection to a destination, known as this proxy's while it lives.
struct Upstream {
    stream: TcpStream,
    _remembered: Remembered,
}

impl Upstream {
    /// It is remembered before the handshake ends, so that it is recognised if it is accepted here.
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
        let remembered = shared.made.remember(ends, trace);
        stream.writable().await?;
        stream.take_error()?.map_or(Ok(()), Err)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            _remembered: remembered,
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
            self.record.reason = Some(comes_back(self.record.original_destination));
        }
        self.shared.enter(&self.record);
    }
}
