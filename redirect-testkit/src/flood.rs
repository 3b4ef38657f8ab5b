// SPDX-License-Identifier: MIT OR Apache-2.0
//! A flood: many short connections, each checked for its server and its original destination.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::SocketAddr,
    panic::resume_unwind,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    dial::{Answer, read_answer},
    errno,
};

/// A flood to make: connections to these destinations in turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flood {
    /// The destinations.
    pub destinations: Vec<SocketAddr>,
    /// The number of connections in all.
    pub connections: u64,
    /// The number of threads. Each makes one connection at a time.
    pub concurrency: u32,
    /// The server that must answer each connection; none accepts any server.
    pub server: Option<String>,
    /// Whether the server must see the dialled address as original destination.
    pub orig_dst: bool,
    /// Whether to send an empty line first, for [`crate::Behaviour::ProxyProtocol`].
    pub speaks_first: bool,
    /// Whether to close with a reset, which leaves no TIME-WAIT behind.
    pub rst: bool,
    /// The time limit of one connection.
    pub timeout: Duration,
}

impl Flood {
    /// Makes a flood of redirected connections, all of which `server` must answer.
    pub fn new(server: &str, destinations: impl Into<Vec<SocketAddr>>, connections: u64) -> Self {
        Self {
            destinations: destinations.into(),
            connections,
            concurrency: 16,
            server: Some(server.to_owned()),
            orig_dst: true,
            speaks_first: false,
            rst: true,
            timeout: Duration::from_secs(5),
        }
    }

    /// Sets the number of threads.
    #[must_use]
    pub const fn concurrency(mut self, concurrency: u32) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Sends an empty line first on each connection.
    #[must_use]
    pub const fn speaking_first(mut self) -> Self {
        self.speaks_first = true;
        self
    }

    /// Accepts any original destination.
    #[must_use]
    pub const fn without_orig_dst(mut self) -> Self {
        self.orig_dst = false;
        self
    }
}

/// The results of a flood: each connection counts in exactly one of the first five fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FloodReport {
    /// Connections with the right server and the right original destination.
    pub right: u64,
    /// Connections with the wrong server or the wrong original destination.
    pub wrong: u64,
    /// Connections without a banner, or with a banner that lacks the original destination.
    pub missing: u64,
    /// Connections that failed with `ECONNREFUSED`.
    pub refused: u64,
    /// Connections that failed with other errors, by the errno's name.
    pub errors: BTreeMap<String, u64>,
    /// Banners by server, right or wrong.
    pub by_server: BTreeMap<String, u64>,
    /// The first few wrong or missing answers as text, for the message of a failed test.
    pub examples: Vec<String>,
    /// The duration of the flood.
    pub seconds: f64,
}

impl FloodReport {
    /// Whether every one of `connections` was right.
    pub const fn is_all_right(&self, connections: u64) -> bool {
        self.right == connections
    }

    /// Fails unless exactly these servers have answered, and each at least once: `told` saw the dialled address
    /// as original destination, `untold` saw none.
    pub fn all_answered(&self, told: &[&str], untold: &[&str]) -> Result<()> {
        let count = |server: &&str| self.by_server.get(*server).copied().unwrap_or_default();
        let sum = |servers: &[&str]| servers.iter().map(count).sum::<u64>();
        let mut all = told.iter().chain(untold);
        ensure!(
            all.all(|server| count(server) > 0),
            "a server has answered no connection: {self:?}"
        );
        ensure!(
            (self.right, self.missing) == (sum(told), sum(untold)),
            "another server has answered, or an original destination differs: {self:?}"
        );
        ensure!(
            (self.wrong, self.refused) == (0, 0) && self.errors.is_empty(),
            "connections were wrong or lost: {self:?}"
        );
        Ok(())
    }

    /// Adds the results of another flood.
    pub fn add(&mut self, other: Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.missing += other.missing;
        self.refused += other.refused;
        for (name, count) in other.errors {
            *self.errors.entry(name).or_default() += count;
        }
        for (server, count) in other.by_server {
            *self.by_server.entry(server).or_default() += count;
        }
        self.seconds += other.seconds;
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES);
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(text());
        }
    }
}

const EXAMPLES: usize = 5;

/// Makes all connections and checks them.
pub(crate) fn flood(request: &Flood) -> FloodReport {
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let mut total = thread::scope(|scope| {
        let threads: Vec<_> = (0..request.concurrency.max(1))
            .map(|_| scope.spawn(|| one_thread(request, &next)))
            .collect();
        let mut total = FloodReport::default();
        for thread in threads {
            // A panic goes on: the counts of this thread are missing, and must not look like zero.
            total.add(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        total
    });
    total.seconds = begun.elapsed().as_secs_f64();
    total
}

fn one_thread(request: &Flood, next: &AtomicU64) -> FloodReport {
    let mut counts = FloodReport::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= request.connections {
            return counts;
        }
        let Some(&to) = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_rem(request.destinations.len()))
            .and_then(|index| request.destinations.get(index))
        else {
            return counts;
        };
        match connect(request, to) {
            Ok(socket) => {
                let deadline = Instant::now() + request.timeout;
                judge(
                    request,
                    to,
                    &read_answer(&socket, &mut Vec::new(), deadline),
                    &mut counts,
                );
            }
            Err(error) => match errno::of(&error) {
                libc::ECONNREFUSED => counts.refused += 1,
                number => *counts.errors.entry(errno::name(number)).or_default() += 1,
            },
        }
    }
}

fn connect(request: &Flood, to: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_write_timeout(Some(request.timeout))?;
    if request.rst {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    socket.connect(&to.into())?;
    if request.speaks_first {
        // If the server has closed the connection already, reading the answer shows it.
        drop((&socket).write_all(b"\n"));
    }
    Ok(socket)
}

fn judge(request: &Flood, to: SocketAddr, answer: &Answer, counts: &mut FloodReport) {
    let Answer::Banner(banner) = answer else {
        counts.missing += 1;
        counts.example(|| format!("{to}: {answer:?}"));
        return;
    };
    match counts.by_server.get_mut(&banner.server) {
        Some(count) => *count += 1,
        None => drop(counts.by_server.insert(banner.server.clone(), 1)),
    }
    let is_right_server = request
        .server
        .as_ref()
        .is_none_or(|server| *server == banner.server);
    match banner.orig_dst {
        None if request.orig_dst && is_right_server => counts.missing += 1,
        _ if !is_right_server => counts.wrong += 1,
        Some(told) if request.orig_dst && told != to => counts.wrong += 1,
        _ => {
            counts.right += 1;
            return;
        }
    }
    counts.example(|| format!("{to}: {banner:?}"));
}
