// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process that holds both ends of every connection.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    fd::OwnedFd,
};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Batch, Ends, Flow, Listener, Seen, Side};
use crate::{addr, dial::timed_out, errno, greeting::original_destination, guise::FsIds, netns};

/// How long a connection may take from the client's side to the listener's: they are in one
/// kernel, so only a machine that stands still needs it.
const DELIVERY: Duration = Duration::from_secs(2);

/// Listeners that a worker makes while it becomes who it should be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Listening {
    pub(crate) world: String,
    pub(crate) listeners: Vec<Listener>,
}

impl Listening {
    /// Makes those of the world. The process must have one thread only and not be in the pod yet;
    /// it is in the world's namespace afterwards.
    pub(crate) fn of_the_world(&self) -> Result<Vec<(u16, Socket)>> {
        netns::enter(&self.world)?;
        self.of(Side::World)
    }

    /// Adds those of the pod, where the process has to be by now.
    pub(crate) fn of_the_pod(&self, mut listeners: Vec<(u16, Socket)>) -> Result<Switchboard> {
        listeners.extend(self.of(Side::Pod)?);
        Switchboard::new(listeners)
    }

    fn of(&self, side: Side) -> Result<Vec<(u16, Socket)>> {
        let numbered = (0..).zip(&self.listeners);
        numbered
            .filter(|(_, listener)| listener.side == side)
            .map(|(number, listener)| {
                let socket = listen(listener.at)
                    .with_context(|| format!("listening on {} ({side:?})", listener.at))?;
                Ok((number, socket))
            })
            .collect()
    }
}

fn listen(at: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    socket.listen(64)?;
    Ok(socket)
}

/// Listeners, and a way to be told which of them has a connection.
#[derive(Debug)]
pub(crate) struct Switchboard {
    listeners: Vec<(u16, Socket)>,
    epoll: OwnedFd,
    /// The number that the next connection carries.
    next: u64,
    ids: FsIds,
}

impl Switchboard {
    fn new(listeners: Vec<(u16, Socket)>) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("making an epoll set")?;
        for (place, (_, socket)) in (0..).zip(&listeners) {
            epoll::add(&epoll, socket, EventData::new_u64(place), EventFlags::IN)
                .context("filling the epoll set")?;
        }
        Ok(Self {
            listeners,
            epoll,
            next: 0,
            ids: FsIds::default(),
        })
    }

    /// Makes the connections, one after the other.
    pub(crate) fn run(&mut self, batch: &Batch) -> Result<Vec<Seen>> {
        let limit = Duration::from_millis(batch.limit_ms);
        batch
            .flows
            .iter()
            .map(|flow| self.make(flow, limit).with_context(|| format!("{flow:?}")))
            .collect()
    }

    /// An error is of what is done around the connect; of the connect itself it is an outcome.
    fn make(&mut self, flow: &Flow, limit: Duration) -> Result<Seen> {
        self.next += 1;
        self.ids.take(flow.uid, flow.gid)?;
        let client = open(flow, limit)?;
        if let Err(error) = client
            .connect(&on_the_wire(flow, flow.to))
            .map_err(timed_out)
        {
            return Ok(Seen::Failed(errno::of(&error)));
        }
        (&client).write_all(self.number().as_bytes())?;
        let Some((listener, server)) = self.delivered()? else {
            return Ok(Seen::Nowhere);
        };
        let ends = Ends {
            listener,
            orig_dst: original_destination(&server),
            server_peer: addr::reported(server.peer_addr()),
            server_local: addr::reported(server.local_addr()),
            client_peer: addr::reported(client.peer_addr()),
            client_local: addr::reported(client.local_addr()),
        };
        // First the client, whose reset ends the other end as well.
        drop(client);
        Ok(Seen::Connected(ends))
    }

    /// The connection that carries the number; one that was given up and arrives late does not.
    fn delivered(&self) -> Result<Option<(u16, Socket)>> {
        let limit = Timespec::try_from(DELIVERY)?;
        loop {
            let mut events = Vec::with_capacity(1);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&limit)) {
                Ok(0) => return Ok(None),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for the connection"),
            }
            for event in events {
                let place = usize::try_from(event.data.u64())?;
                let Some((number, listener)) = self.listeners.get(place) else {
                    bail!("an event of a listener that is not there");
                };
                match listener.accept() {
                    Ok((server, _)) if self.is_ours(&server) => {
                        return Ok(Some((*number, server)));
                    }
                    // Reset while it waited, or one of earlier.
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }

    fn is_ours(&self, mut server: &Socket) -> bool {
        let expected = self.number();
        let mut number = vec![0; expected.len()];
        server.set_read_timeout(Some(DELIVERY)).is_ok()
            && server.read_exact(&mut number).is_ok()
            && number == expected.as_bytes()
    }

    /// What the connection carries.
    fn number(&self) -> String {
        format!("{:016x}", self.next)
    }
}

/// A socket that leaves nothing behind: closing it resets, so neither end waits in TIME-WAIT, and
/// ports do not run out.
fn open(flow: &Flow, limit: Duration) -> io::Result<Socket> {
    let domain = if flow.mapped {
        Domain::IPV6
    } else {
        Domain::for_address(flow.to)
    };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_write_timeout(Some(limit))?;
    if let Some(from) = flow.from {
        socket.bind(&on_the_wire(flow, SocketAddr::new(from, 0)))?;
    }
    Ok(socket)
}

fn on_the_wire(flow: &Flow, address: SocketAddr) -> socket2::SockAddr {
    if flow.mapped {
        addr::mapped(address).into()
    } else {
        address.into()
    }
}
