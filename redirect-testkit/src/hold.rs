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
    dial::{Answer, begin, read_answer},
    errno,
};

/// Connections to begin without waiting for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Where to.
    pub to: SocketAddr,
    /// The local address that all are bound to first (`SO_REUSEADDR`).
    pub bind: Option<SocketAddr>,
    /// How many.
    pub connections: u32,
}

/// How the held connections stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
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
pub(crate) struct Holding {
    sockets: Vec<Socket>,
    failed: Held,
}

impl Holding {
    /// Begins some more.
    pub(crate) fn add(&mut self, hold: &Hold) -> Held {
        for _ in 0..hold.connections {
            let begun = Socket::new(
                Domain::for_address(hold.to),
                Type::STREAM,
                Some(Protocol::TCP),
            )
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .and_then(|socket| bind(&socket, hold.bind).map(|()| socket))
            .and_then(|socket| begin(&socket, &hold.to.into()).map(|()| socket));
            match begun {
                Ok(socket) => self.sockets.push(socket),
                Err(error) => self.failed.count(errno::of(&error)),
            }
        }
        self.look()
    }

    /// Looks how they stand now.
    pub(crate) fn look(&mut self) -> Held {
        let mut held = Held::default();
        let failed = &mut self.failed;
        self.sockets.retain(|socket| {
            let error = socket.take_error().ok().flatten();
            if let Some(error) = &error {
                failed.count(errno::of(error));
            } else if is_writable(socket) {
                held.established += 1;
            } else {
                held.in_progress += 1;
            }
            error.is_none()
        });
        held.refused = failed.refused;
        held.errors.clone_from(&failed.errors);
        held
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

impl Held {
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
