// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connecting in all the ways an application may, and telling who answered.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::connect_unspec,
};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{addr, errno, greeting::Greeting, sockopt::set_fastopen_connect};

/// How the connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// `connect` that waits.
    Blocking,
    /// `connect` on a non-blocking socket, then poll.
    NonBlocking,
    /// No `connect` at all: `sendto` with `MSG_FASTOPEN`.
    FastOpen,
    /// `TCP_FASTOPEN_CONNECT`: `connect` returns at once, the first write sends the SYN.
    FastOpenConnect,
    /// A connected UDP socket: `connect`, one datagram, one datagram back.
    Udp,
}

/// One connection to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dial {
    /// The destination.
    pub to: SocketAddr,
    /// A local address to bind first.
    pub bind: Option<SocketAddr>,
    /// Dial an IPv4 destination from an `AF_INET6` socket, as `::ffff:a.b.c.d`.
    pub mapped: bool,
    /// How.
    pub mode: Mode,
    /// Bytes to send; the fast open modes send a little in any case.
    pub send: Option<Vec<u8>>,
    /// Whether to read the sent bytes back after the greeting.
    pub echo: bool,
    /// Whether to wait for a greeting.
    pub greeting: bool,
    /// The limit for the whole dial.
    pub timeout: Duration,
}

impl Dial {
    /// A blocking dial of two seconds at most that waits for a greeting.
    pub const fn to(to: SocketAddr) -> Self {
        Self {
            to,
            bind: None,
            mapped: false,
            mode: Mode::Blocking,
            send: None,
            echo: false,
            greeting: true,
            timeout: Duration::from_secs(2),
        }
    }

    /// The same, bound to a local address first.
    #[must_use]
    pub const fn from(mut self, local: SocketAddr) -> Self {
        self.bind = Some(local);
        self
    }

    /// The same, from an `AF_INET6` socket.
    #[must_use]
    pub const fn mapped(mut self) -> Self {
        self.mapped = true;
        self
    }

    /// The same, made another way.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The same, sending these bytes.
    #[must_use]
    pub fn send(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.send = Some(bytes.into());
        self
    }

    /// The same, sending these bytes and reading them back.
    #[must_use]
    pub fn echo(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.send = Some(bytes.into());
        self.echo = true;
        self
    }

    /// The same, without waiting for a greeting.
    #[must_use]
    pub const fn without_greeting(mut self) -> Self {
        self.greeting = false;
        self
    }

    /// The same, with another limit.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    const fn is_ipv6_socket(&self) -> bool {
        self.mapped || self.to.is_ipv6()
    }

    fn on_the_wire(&self, address: SocketAddr) -> SockAddr {
        if self.mapped {
            addr::mapped(address).into()
        } else {
            address.into()
        }
    }
}

/// Dial `first`, optionally disconnect with `connect(AF_UNSPEC)`, then dial `second`: all on one
/// socket, made as `first` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialSequence {
    /// The first connection.
    pub first: Dial,
    /// Whether to disconnect in between; without it the second connect should fail, `EISCONN`.
    pub disconnect: bool,
    /// The second connection, on the same socket.
    pub second: Dial,
}

/// What a server sent after the connection stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// A greeting.
    Greeting(Greeting),
    /// Something else.
    Other(String),
    /// The end of the stream.
    Closed,
    /// A reset.
    Reset,
    /// Nothing until the time was up.
    Silent,
    /// Nobody waited for one.
    NotAwaited,
}

/// What came of a dial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The connection stood.
    Connected(Answer),
    /// `ECONNREFUSED`.
    Refused,
    /// Any other error; a dial that took too long is `ETIMEDOUT`.
    Failed {
        /// The errno.
        errno: i32,
        /// Its name.
        name: String,
    },
}

/// A dial's outcome, and both addresses as the client sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialled {
    /// What came of it.
    pub outcome: Outcome,
    /// `getpeername`, once connected; IPv4-mapped addresses in IPv4 form.
    pub peername: Option<SocketAddr>,
    /// `getsockname`, once connected; IPv4-mapped addresses in IPv4 form.
    pub sockname: Option<SocketAddr>,
    /// What the server sent back, if the dial asked for an echo.
    pub echoed: Option<Vec<u8>>,
}

impl Dialled {
    /// The greeting, if there was one.
    pub const fn greeting(&self) -> Option<&Greeting> {
        match &self.outcome {
            Outcome::Connected(Answer::Greeting(greeting)) => Some(greeting),
            Outcome::Connected(_) | Outcome::Refused | Outcome::Failed { .. } => None,
        }
    }

    /// The name of the server that answered.
    pub fn server(&self) -> Option<&str> {
        self.greeting().map(|greeting| greeting.server.as_str())
    }

    /// The original destination, as the answering server was told.
    pub fn orig_dst(&self) -> Option<SocketAddr> {
        self.greeting().and_then(|greeting| greeting.orig_dst)
    }

    /// Whether the connection stood, whoever answered.
    pub const fn is_connected(&self) -> bool {
        matches!(self.outcome, Outcome::Connected(_))
    }

    fn failed(error: &io::Error) -> Self {
        let outcome = match errno::of(error) {
            libc::ECONNREFUSED => Outcome::Refused,
            number => Outcome::Failed {
                errno: number,
                name: errno::name(number),
            },
        };
        Self {
            outcome,
            peername: None,
            sockname: None,
            echoed: None,
        }
    }
}

/// Makes one connection on a new socket.
pub(crate) fn dial(request: &Dial) -> io::Result<Dialled> {
    let socket = open(request)?;
    Ok(dial_on(&socket, request))
}

/// Makes two connections on one socket.
pub(crate) fn dial_sequence(request: &DialSequence) -> io::Result<(Dialled, Dialled)> {
    let socket = open(&request.first)?;
    let first = dial_on(&socket, &request.first);
    if request.disconnect {
        connect_unspec(&socket)?;
    }
    Ok((first, dial_on(&socket, &request.second)))
}

/// A socket of the right family, bound if asked to. A failing bind is the test's fault, so it is
/// an error and not an outcome.
pub(crate) fn open(request: &Dial) -> io::Result<Socket> {
    let domain = if request.is_ipv6_socket() {
        Domain::IPV6
    } else {
        Domain::IPV4
    };
    let (kind, protocol) = if request.mode == Mode::Udp {
        (Type::DGRAM, Protocol::UDP)
    } else {
        (Type::STREAM, Protocol::TCP)
    };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    if let Some(local) = request.bind {
        socket.bind(&request.on_the_wire(local))?;
    }
    Ok(socket)
}

fn dial_on(socket: &Socket, request: &Dial) -> Dialled {
    let deadline = Instant::now() + request.timeout;
    if let Err(error) = connect(socket, request, deadline) {
        return Dialled::failed(&error);
    }
    let peername = addr::reported(socket.peer_addr());
    let sockname = addr::reported(socket.local_addr());
    let (answer, echoed) = converse(socket, request, deadline);
    Dialled {
        outcome: Outcome::Connected(answer),
        peername,
        sockname,
        echoed,
    }
}

/// Connects, and in the fast open modes sends what there is to send.
fn connect(socket: &Socket, request: &Dial, deadline: Instant) -> io::Result<()> {
    let to = request.on_the_wire(request.to);
    // Bounds a blocking connect as well: SO_SNDTIMEO.
    socket.set_write_timeout(Some(left(deadline)))?;
    match request.mode {
        Mode::Blocking => socket.connect(&to).map_err(timed_out),
        Mode::Udp => {
            socket.connect(&to)?;
            socket.send(early(request)).map(drop)
        }
        Mode::NonBlocking => {
            socket.set_nonblocking(true)?;
            begin(socket, &to)?;
            settle(socket, deadline)?;
            socket.set_nonblocking(false)
        }
        Mode::FastOpen => socket
            .send_to_with_flags(early(request), &to, libc::MSG_FASTOPEN)
            .map(drop)
            .map_err(timed_out),
        Mode::FastOpenConnect => {
            set_fastopen_connect(socket)?;
            // Without a cookie for this destination, the kernel connects in the ordinary way.
            socket.connect(&to).map_err(timed_out)?;
            socket.send(early(request)).map_err(timed_out)?;
            settle(socket, deadline)
        }
    }
}

/// A connect that does not wait: `EINPROGRESS` is its success.
pub(crate) fn begin(socket: &Socket, to: &SockAddr) -> io::Result<()> {
    match socket.connect(to) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        result => result,
    }
}

/// Waits until a begun connect has succeeded or failed.
fn settle(socket: &Socket, deadline: Instant) -> io::Result<()> {
    let limit = Timespec::try_from(left(deadline)).map_err(io::Error::other)?;
    let ready = poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&limit))?;
    if ready == 0 {
        return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
    }
    socket.take_error()?.map_or(Ok(()), Err)
}

/// What a blocking call answers when `SO_SNDTIMEO` has run out.
fn timed_out(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EINPROGRESS | libc::EAGAIN) => io::Error::from_raw_os_error(libc::ETIMEDOUT),
        _ => error,
    }
}

fn early(request: &Dial) -> &[u8] {
    request.send.as_deref().unwrap_or(b"hello")
}

const fn has_sent(mode: Mode) -> bool {
    matches!(mode, Mode::FastOpen | Mode::FastOpenConnect | Mode::Udp)
}

/// Sends, reads the greeting line, reads the echo.
fn converse(socket: &Socket, request: &Dial, deadline: Instant) -> (Answer, Option<Vec<u8>>) {
    if let Some(bytes) = request.send.as_deref().filter(|_| !has_sent(request.mode)) {
        let mut stream = socket;
        if let Err(error) = stream.write_all(bytes) {
            return (ended(&error), None);
        }
    }
    let mut rest = Vec::new();
    let answer = if request.greeting {
        read_answer(socket, &mut rest, deadline)
    } else {
        Answer::NotAwaited
    };
    let echoed = request.echo.then(|| {
        let wanted = request.send.as_ref().map_or(0, Vec::len);
        while rest.len() < wanted && matches!(read_more(socket, &mut rest, deadline), Ok(1..)) {}
        rest
    });
    (answer, echoed)
}

/// Reads up to the first newline; what came after it is left in `rest`.
pub(crate) fn read_answer(socket: &Socket, rest: &mut Vec<u8>, deadline: Instant) -> Answer {
    loop {
        if let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            return Greeting::parse(&line)
                .map_or_else(|| Answer::Other(line.into_owned()), Answer::Greeting);
        }
        match read_more(socket, rest, deadline) {
            Ok(0) if rest.is_empty() => return Answer::Closed,
            Ok(0) => return Answer::Other(String::from_utf8_lossy(rest).into_owned()),
            Ok(_) => {}
            Err(error) => return ended(&error),
        }
    }
}

fn read_more(mut socket: &Socket, into: &mut Vec<u8>, deadline: Instant) -> io::Result<usize> {
    socket.set_read_timeout(Some(left(deadline)))?;
    let mut chunk = [0; 2048];
    let count = socket.read(&mut chunk)?;
    into.extend(chunk.iter().take(count));
    Ok(count)
}

fn ended(error: &io::Error) -> Answer {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Answer::Silent,
        Some(libc::ECONNRESET | libc::EPIPE) => Answer::Reset,
        other => Answer::Other(errno::name(other.unwrap_or(libc::EIO))),
    }
}

/// Never zero, which would mean no limit at all.
fn left(deadline: Instant) -> Duration {
    deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1))
}
