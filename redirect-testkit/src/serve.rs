// SPDX-License-Identifier: MIT OR Apache-2.0
//! Named servers inside a worker: each runs in threads of its own until stopped.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    addr, behind_proxy,
    greeting::{Greeting, original_destination},
    http,
};

/// Greeted connections a server keeps open, so that it is the client who closes. Enough for any
/// flood's concurrency; the oldest goes first.
const KEPT: usize = 512;

/// What a server does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Behaviour {
    /// Sends its greeting and keeps the connection open.
    Greet,
    /// The same, but the greeting says what came of asking for the original destination again, in
    /// the ways of several proxies.
    GreetAskingAgain,
    /// Sends its greeting, then everything it receives.
    GreetAndEcho,
    /// Waits for a line, sends its greeting, and keeps the connection open until the client closes it. If a proxy
    /// says first on whose behalf it comes (`PROXY`, version 1), the greeting has the addresses that it
    /// says, as `peer` and `orig_dst`.
    GreetBehindProxy,
    /// Answers HTTP/1.1 requests: 200, its name as the `server` header, the greeting as body.
    Http,
    /// Asks for the original destination and closes: the bench's server.
    AskAndClose,
    /// Listens but never accepts.
    HoldWithoutAccept,
    /// A UDP socket that answers each datagram with a greeting. Listening on a wildcard address
    /// it would answer from whichever address the route prefers, so give it one.
    Udp,
}

/// A server to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Serve {
    /// What it calls itself in greetings.
    pub name: String,
    /// Where it listens; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// For IPv6: whether to turn IPv4-mapped connections away.
    pub v6only: bool,
    /// Whether other servers may listen at the same address (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Whether it takes connections to foreign addresses (`IP_TRANSPARENT`), as TPROXY needs.
    pub transparent: bool,
    /// The listen backlog.
    pub backlog: i32,
    /// Whether it takes multipath connections (`IPPROTO_MPTCP`).
    pub multipath: bool,
    /// What it does.
    pub behaviour: Behaviour,
}

impl Serve {
    /// A greeting server, IPv6-only on an IPv6 address.
    pub fn new(name: &str, listen: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            listen,
            v6only: true,
            reuse_port: false,
            transparent: false,
            backlog: 4096,
            multipath: false,
            behaviour: Behaviour::Greet,
        }
    }

    /// The same, doing something else.
    #[must_use]
    pub const fn behaviour(mut self, behaviour: Behaviour) -> Self {
        self.behaviour = behaviour;
        self
    }

    /// The same, taking IPv4-mapped connections too.
    #[must_use]
    pub const fn dual_stack(mut self) -> Self {
        self.v6only = false;
        self
    }

    /// The same, taking multipath connections too.
    #[must_use]
    pub const fn multipath(mut self) -> Self {
        self.multipath = true;
        self
    }

    /// The same, sharing its address with other servers that do so.
    #[must_use]
    pub const fn reuse_port(mut self) -> Self {
        self.reuse_port = true;
        self
    }

    /// The same, for connections that TPROXY redirects. Takes `CAP_NET_ADMIN`.
    #[must_use]
    pub const fn transparent(mut self) -> Self {
        self.transparent = true;
        self
    }

    /// The same, with another backlog.
    #[must_use]
    pub const fn backlog(mut self, backlog: i32) -> Self {
        self.backlog = backlog;
        self
    }
}

/// What a server has accepted so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Connections, or datagrams.
    pub connections: u64,
    /// Those with an original destination that is not the server's own address: redirected ones.
    /// With [`Behaviour::GreetBehindProxy`], those of a proxy.
    pub redirected: u64,
    /// With [`Behaviour::GreetBehindProxy`], those that ended, or are open, before anybody has said a word.
    pub silent: u64,
}

impl Accepted {
    /// With [`Behaviour::GreetBehindProxy`], those of no proxy.
    pub const fn direct(&self) -> u64 {
        self.connections - self.redirected - self.silent
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    connections: AtomicU64,
    redirected: AtomicU64,
    silent: AtomicU64,
}

impl Counts {
    pub(crate) fn add(&self, local: Option<SocketAddr>, orig_dst: Option<SocketAddr>) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        if orig_dst.is_some() && orig_dst != local {
            self.redirected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One more, of which it is not known yet.
    pub(crate) fn add_silent(&self) {
        self.silent.fetch_add(1, Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// It has spoken.
    pub(crate) fn heard(&self, is_redirected: bool) {
        self.redirected
            .fetch_add(u64::from(is_redirected), Ordering::Relaxed);
        self.silent.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    listener: Arc<Socket>,
    counts: Arc<Counts>,
}

impl Server {
    /// Listens, then serves in a thread; a connection made from now on is served.
    pub(crate) fn start(serve: &Serve) -> io::Result<(Self, SocketAddr)> {
        let listener = Arc::new(listen(serve)?);
        let counts = Arc::new(Counts::default());
        let bound = addr::reported(listener.local_addr()).unwrap_or(serve.listen);
        let (ears, tally, name) = (
            Arc::clone(&listener),
            Arc::clone(&counts),
            serve.name.clone(),
        );
        let behaviour = serve.behaviour;
        let work = move || match behaviour {
            Behaviour::Greet => greet(&ears, &tally, |socket| Greeting::of(&name, socket)),
            Behaviour::GreetAskingAgain => greet(&ears, &tally, |socket| {
                Greeting::of(&name, socket).asking_again(socket)
            }),
            Behaviour::AskAndClose => ask_and_close(&ears, &tally),
            Behaviour::GreetAndEcho => each_in_a_thread(&ears, &tally, &name, echo),
            Behaviour::GreetBehindProxy => behind_proxy::serve(&ears, &tally, &name),
            Behaviour::Http => each_in_a_thread(&ears, &tally, &name, http::answer),
            Behaviour::Udp => answer_datagrams(&ears, &tally, &name),
            Behaviour::HoldWithoutAccept => {}
        };
        thread::Builder::new()
            .name(serve.name.chars().take(15).collect())
            .spawn(work)?;
        Ok((Self { listener, counts }, bound))
    }

    pub(crate) fn accepted(&self) -> Accepted {
        Accepted {
            connections: self.counts.connections.load(Ordering::Relaxed),
            redirected: self.counts.redirected.load(Ordering::Relaxed),
            silent: self.counts.silent.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Server {
    /// A shut-down listener wakes its thread with an error, upon which it ends.
    fn drop(&mut self) {
        drop(self.listener.shutdown(Shutdown::Both));
    }
}

fn listen(serve: &Serve) -> io::Result<Socket> {
    let domain = if serve.listen.is_ipv6() {
        Domain::IPV6
    } else {
        Domain::IPV4
    };
    let is_udp = serve.behaviour == Behaviour::Udp;
    let (kind, protocol) = if is_udp {
        (Type::DGRAM, Protocol::UDP)
    } else if serve.multipath {
        (Type::STREAM, Protocol::MPTCP)
    } else {
        (Type::STREAM, Protocol::TCP)
    };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    if serve.listen.is_ipv6() {
        socket.set_only_v6(serve.v6only)?;
    }
    socket.set_reuse_address(!is_udp)?;
    socket.set_reuse_port(serve.reuse_port)?;
    if serve.transparent && serve.listen.is_ipv6() {
        socket.set_ip_transparent_v6(true)?;
    } else if serve.transparent {
        socket.set_ip_transparent_v4(true)?;
    }
    socket.bind(&serve.listen.into())?;
    if !is_udp {
        socket.listen(serve.backlog)?;
    }
    Ok(socket)
}

/// The next connection; none once the listener is shut down. A connection that died in the queue
/// is passed over, as is a moment without free descriptors.
pub(crate) fn accept(listener: &Socket) -> Option<Socket> {
    loop {
        match listener.accept() {
            Ok((socket, _)) => return Some(socket),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return None,
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => return None,
            Err(_) => thread::yield_now(),
        }
    }
}

fn greet(listener: &Socket, counts: &Counts, greeting: impl Fn(&Socket) -> Greeting) {
    let mut kept = VecDeque::with_capacity(KEPT);
    while let Some(socket) = accept(listener) {
        say_hello(&socket, counts, &greeting(&socket));
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(socket);
    }
}

fn say_hello(mut socket: &Socket, counts: &Counts, greeting: &Greeting) {
    counts.add(greeting.local, greeting.orig_dst);
    // A client that is gone already does not matter.
    drop(socket.write_all(&greeting.line()));
}

fn ask_and_close(listener: &Socket, counts: &Counts) {
    while let Some(socket) = accept(listener) {
        let orig_dst = original_destination(&socket).ok().flatten();
        counts.add(addr::reported(socket.local_addr()), orig_dst);
    }
}

fn each_in_a_thread(
    listener: &Socket,
    counts: &Arc<Counts>,
    name: &str,
    work: fn(&Socket, &Greeting),
) {
    while let Some(socket) = accept(listener) {
        let greeting = Greeting::of(name, &socket);
        counts.add(greeting.local, greeting.orig_dst);
        thread::spawn(move || work(&socket, &greeting));
    }
}

fn echo(mut socket: &Socket, greeting: &Greeting) {
    let mut chunk = [0; 4096];
    let mut sent = socket.write_all(&greeting.line());
    while let (Ok(()), Ok(count @ 1..)) = (&sent, socket.read(&mut chunk)) {
        sent = socket.write_all(chunk.get(..count).unwrap_or_default());
    }
}

fn answer_datagrams(socket: &Socket, counts: &Counts, name: &str) {
    let mut chunk = [std::mem::MaybeUninit::uninit(); 2048];
    while let Ok((_, from)) = socket.recv_from(&mut chunk) {
        // A shut-down socket returns nothing, from nobody.
        let Some(peer) = from.as_socket().map(addr::canonical) else {
            return;
        };
        let local = addr::reported(socket.local_addr());
        counts.add(local, None);
        let greeting = Greeting {
            server: name.to_owned(),
            orig_dst: None,
            orig_dst_error: None,
            peer: Some(peer),
            local,
            asked: Vec::new(),
        };
        drop(socket.send_to(&greeting.line(), &from));
    }
}
