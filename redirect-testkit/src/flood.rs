// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many short connections, each checked: does any reach the wrong server, or carry the original
//! destination of another?

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

/// Connections to open, round robin over the destinations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flood {
    /// Where to.
    pub destinations: Vec<SocketAddr>,
    /// How many in all.
    pub connections: u64,
    /// How many at a time, one thread each.
    pub concurrency: u32,
    /// The server that must answer each of them; none: whoever answers is right.
    pub server: Option<String>,
    /// Whether the server must have been told the dialled address as original destination.
    pub orig_dst: bool,
    /// Whether to send an empty line first, for [`crate::Behaviour::ProxyProtocol`].
    pub speaks_first: bool,
    /// Close with a reset, which leaves no TIME-WAIT behind.
    pub rst: bool,
    /// The limit of one connection.
    pub timeout: Duration,
}

impl Flood {
    /// A flood of redirected connections, all of which `server` must answer.
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

    /// The same, with another number of threads.
    #[must_use]
    pub const fn concurrency(mut self, concurrency: u32) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// The same, with an empty line sent first.
    #[must_use]
    pub const fn speaking_first(mut self) -> Self {
        self.speaks_first = true;
        self
    }

    /// The same, without looking at the original destination.
    #[must_use]
    pub const fn without_orig_dst(mut self) -> Self {
        self.orig_dst = false;
        self
    }
}

/// What came of a flood.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FloodReport {
    /// The right server with the right original destination.
    pub right: u64,
    /// The wrong server, or the wrong original destination.
    pub wrong: u64,
    /// Connected, and no banner, or one without an original destination.
    pub missing: u64,
    /// `ECONNREFUSED`.
    pub refused: u64,
    /// Other errors by name.
    pub errors: BTreeMap<String, u64>,
    /// Greetings by server, right or wrong.
    pub by_server: BTreeMap<String, u64>,
    /// The first few wrong or missing answers, in words.
    pub examples: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

impl FloodReport {
    /// Whether every one of `connections` was right.
    pub const fn is_all_right(&self, connections: u64) -> bool {
        self.right == connections
    }

    /// An error unless every connection was answered by one of these, and each of them has answered: some who
    /// were told the dialled address as original destination, others who were told none.
    pub fn all_answered(&self, told: &[&str], untold: &[&str]) -> Result<()> {
        let count = |server: &&str| self.by_server.get(*server).copied().unwrap_or_default();
        let sum = |servers: &[&str]| servers.iter().map(count).sum::<u64>();
        let mut all = told.iter().chain(untold);
        ensure!(
            all.all(|server| count(server) > 0),
            "one of them has answered nobody: {self:?}"
        );
        ensure!(
            (self.right, self.missing) == (sum(told), sum(untold)),
            "others have answered, or were told otherwise: {self:?}"
        );
        ensure!(
            (self.wrong, self.refused) == (0, 0) && self.errors.is_empty(),
            "wrong or lost: {self:?}"
        );
        Ok(())
    }

    /// Adds what came of another one.
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

/// Opens them all.
pub(crate) fn flood(request: &Flood) -> FloodReport {
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let mut total = thread::scope(|scope| {
        let threads: Vec<_> = (0..request.concurrency.max(1))
            .map(|_| scope.spawn(|| one_thread(request, &next)))
            .collect();
        let mut total = FloodReport::default();
        for thread in threads {
            // Nobody must take those that it has not counted for none.
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
        // If it is closed already, reading tells.
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
