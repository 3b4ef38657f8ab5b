// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections that are begun and kept, finished or not.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::SocketAddr,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    dial::{Answer, read_answer, start_connect},
    errno,
};

/// Connections to begin without waiting for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenConnections {
    /// Where to.
    pub to: SocketAddr,
    /// The local address that all are bound to first (`SO_REUSEADDR`).
    pub bind: Option<SocketAddr>,
    /// How many.
    pub count: u32,
}

/// How the counts connections stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionCounts {
    /// Connected.
    pub established: u32,
    /// Still waiting for the other side.
    pub in_progress: u32,
    /// Refused, while beginning or since.
    pub refused: u32,
    /// Other errors by name.
    pub errors: BTreeMap<String, u32>,
}

/// The connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct ConnectionPool {
    sockets: Vec<Socket>,
    failed: ConnectionCounts,
}

impl ConnectionPool {
    /// Begins some more.
    pub(crate) fn add(&mut self, request: &OpenConnections) -> ConnectionCounts {
        for _ in 0..request.count {
            let begun = Socket::new(
                Domain::for_address(request.to),
                Type::STREAM,
                Some(Protocol::TCP),
            )
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .and_then(|socket| bind(&socket, request.bind).map(|()| socket))
            .and_then(|socket| start_connect(&socket, &request.to.into()).map(|()| socket));
            match begun {
                Ok(socket) => self.sockets.push(socket),
                Err(error) => self.failed.count(errno::of(&error)),
            }
        }
        self.look()
    }

    /// Looks how they stand now.
    pub(crate) fn look(&mut self) -> ConnectionCounts {
        let mut counts = ConnectionCounts::default();
        let failed = &mut self.failed;
        self.sockets.retain(|socket| {
            let error = socket.take_error().ok().flatten();
            if let Some(error) = &error {
                failed.count(errno::of(error));
            } else if is_writable(socket) {
                counts.established += 1;
            } else {
                counts.in_progress += 1;
            }
            error.is_none()
        });
        counts.refused = failed.refused;
        counts.errors.clone_from(&failed.errors);
        counts
    }

    /// Says something on each, and listens. Within the limit, all of them together.
    pub(crate) fn ask(&self, limit: Duration) -> Vec<Answer> {
        let deadline = Instant::now() + limit;
        let asked = self.sockets.iter().map(|mut socket| {
            // What cannot be written is not answered either, and that tells why.
            drop(
                socket
                    .set_nonblocking(false)
                    .and_then(|()| socket.write_all(b"\n")),
            );
            read_answer(socket, &mut Vec::new(), deadline)
        });
        asked.collect()
    }

    /// Closes them all.
    pub(crate) fn release(&mut self) {
        *self = Self::default();
    }
}

impl ConnectionCounts {
    fn count(&mut self, number: i32) {
        if number == libc::ECONNREFUSED {
            self.refused += 1;
        } else {
            *self.errors.entry(errno::name(number)).or_default() += 1;
        }
    }
}

fn bind(socket: &Socket, local: Option<SocketAddr>) -> io::Result<()> {
    let Some(local) = local else { return Ok(()) };
    socket.set_reuse_address(true)?;
    socket.bind(&local.into())
}

fn is_writable(socket: &Socket) -> bool {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&now)).is_ok_and(|ready| ready > 0)
}
