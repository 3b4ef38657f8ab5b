// SPDX-License-Identifier: MIT OR Apache-2.0
//! Open connections: a worker starts them without waiting, and keeps them, whether established or not.

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

/// Connections to open and keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenConnections {
    /// The destination.
    pub to: SocketAddr,
    /// The local address that every socket is bound to first (`SO_REUSEADDR`).
    pub bind: Option<SocketAddr>,
    /// The number of connections.
    pub count: u32,
}

/// The states of a worker's open connections, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionCounts {
    /// Established connections.
    pub established: u32,
    /// Connections that still wait for the other side.
    pub in_progress: u32,
    /// Connections refused so far; they are no longer kept.
    pub refused: u32,
    /// Connections that failed with other errors, by the errno's name; they are no longer kept.
    pub errors: BTreeMap<String, u32>,
}

/// The open connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct ConnectionPool {
    sockets: Vec<Socket>,
    failed: ConnectionCounts,
}

impl ConnectionPool {
    /// Opens more connections.
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
                Err(error) => self.failed.add_error(errno::of(&error)),
            }
        }
        self.count()
    }

    /// Counts the connections by their present state.
    pub(crate) fn count(&mut self) -> ConnectionCounts {
        let mut counts = ConnectionCounts::default();
        let failed = &mut self.failed;
        self.sockets.retain(|socket| {
            let error = socket.take_error().ok().flatten();
            if let Some(error) = &error {
                failed.add_error(errno::of(error));
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

    /// Sends an empty line on each connection and reads its answer. The limit is for all connections together.
    pub(crate) fn ask(&self, limit: Duration) -> Vec<Answer> {
        let deadline = Instant::now() + limit;
        let asked = self.sockets.iter().map(|mut socket| {
            // If writing fails, reading the answer reports the reason.
            drop(
                socket
                    .set_nonblocking(false)
                    .and_then(|()| socket.write_all(b"\n")),
            );
            read_answer(socket, &mut Vec::new(), deadline)
        });
        asked.collect()
    }

    /// Closes all connections.
    pub(crate) fn close(&mut self) {
        *self = Self::default();
    }
}

impl ConnectionCounts {
    fn add_error(&mut self, number: i32) {
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
