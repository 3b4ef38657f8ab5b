// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process that holds both ends of every connection.

use std::{
    io::{self, Read as _, Write as _},
    mem::MaybeUninit,
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
    net::connect_unspec,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    datagram,
    flow::{Flow, FlowBatch, FlowEnds, FlowKind, FlowOutcome, Side},
    sockets::{ListenSocket, WorldSockets},
};
use crate::{
    addr,
    banner::original_destination,
    dial::timed_out,
    errno,
    socket_identity::FsIds,
    sockopt::{Datagram, receive_with_destination},
};

/// How long a connection may take from the client's side to the listener's: they are in one
/// kernel, so only a machine that stands still needs it.
const DELIVERY: Duration = Duration::from_secs(2);
/// What stands for the client among the places of the listeners.
const CLIENT: u64 = u64::MAX;

/// What has arrived at a listener.
#[derive(Debug)]
enum InboundFlow {
    Connection(Socket),
    Datagram(Datagram),
}

/// Listeners, and a way to be told which of them has a connection.
#[derive(Debug)]
pub(crate) struct FlowRunner {
    sockets: Vec<ListenSocket>,
    clients: [Socket; 2],
    epoll: OwnedFd,
    /// The number that the next connection carries.
    next: u64,
    ids: FsIds,
}

impl FlowRunner {
    pub(crate) fn new(WorldSockets { sockets, clients }: WorldSockets) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("making an epoll set")?;
        for (place, socket) in (0..).zip(&sockets) {
            epoll::add(
                &epoll,
                &socket.socket,
                EventData::new_u64(place),
                EventFlags::IN,
            )
            .context("filling the epoll set")?;
        }
        Ok(Self {
            sockets,
            clients,
            epoll,
            next: 0,
            ids: FsIds::default(),
        })
    }

    /// Makes the connections, one after the other.
    pub(crate) fn run(&mut self, batch: &FlowBatch) -> Result<Vec<FlowOutcome>> {
        let limit = Duration::from_millis(batch.limit_ms);
        batch
            .flows
            .iter()
            .map(|flow| {
                self.run_flow(flow, limit)
                    .with_context(|| format!("{flow:?}"))
            })
            .collect()
    }

    /// An error is of what is done around the flow; of the flow itself it is an outcome.
    fn run_flow(&mut self, flow: &Flow, limit: Duration) -> Result<FlowOutcome> {
        self.next += 1;
        self.ids.take(flow.uid, flow.gid)?;
        let client = match flow.client {
            Side::Pod => open(flow, limit)?,
            Side::World => self.world_client(flow, limit)?,
        };
        if flow.kind == FlowKind::Connection {
            self.connect(client, flow)
        } else {
            self.query(&client, flow, limit)
        }
    }

    /// The socket of the world, without a connection.
    fn world_client(&self, flow: &Flow, limit: Duration) -> io::Result<Socket> {
        let [v4, v6] = &self.clients;
        let visitor = if flow.to.is_ipv4() { v4 } else { v6 };
        connect_unspec(visitor)?;
        visitor.set_write_timeout(Some(limit))?;
        visitor.try_clone()
    }

    fn connect(&self, client: Socket, flow: &Flow) -> Result<FlowOutcome> {
        let to = sock_addr(flow, flow.to);
        if let Err(error) = client.connect(&to).map_err(timed_out) {
            return Ok(FlowOutcome::Failed(errno::of(&error)));
        }
        (&client).write_all(self.number().as_bytes())?;
        let Some((socket, InboundFlow::Connection(server))) = self.wait_for_arrival(DELIVERY)?
        else {
            return Ok(FlowOutcome::Lost);
        };
        let ends = FlowEnds {
            listener: socket.number,
            orig_dst: original_destination(&server),
            server_peer: addr::reported(server.peer_addr()),
            server_local: addr::reported(server.local_addr()),
            client_peer: addr::reported(client.peer_addr()),
            client_local: addr::reported(client.local_addr()),
        };
        // First the client, whose reset ends the other end as well.
        if flow.client == Side::World {
            connect_unspec(&client)?;
        }
        drop(client);
        Ok(FlowOutcome::Reached(ends))
    }

    fn query(&self, client: &Socket, flow: &Flow, limit: Duration) -> Result<FlowOutcome> {
        let (to, query) = (sock_addr(flow, flow.to), self.number());
        let sent = if flow.kind == FlowKind::ConnectedDatagram {
            client
                .connect(&to)
                .and_then(|()| client.send(query.as_bytes()))
        } else {
            client.send_to(query.as_bytes(), &to)
        };
        if let Err(error) = sent {
            return Ok(FlowOutcome::Failed(errno::of(&error)));
        }
        // That nobody is there is told to the client. Closing it takes it out again.
        epoll::add(
            &self.epoll,
            client,
            EventData::new_u64(CLIENT),
            EventFlags::IN,
        )?;
        let arrived = self.wait_for_arrival(limit)?;
        if let Some((socket, InboundFlow::Datagram(query))) = &arrived {
            datagram::answer(&socket.socket, query).context("answering")?;
        }
        let mut answer = [MaybeUninit::uninit(); 64];
        let from = match client.recv_from(&mut answer) {
            Ok((_, from)) => addr::reported(Ok(from)),
            Err(error) => return Ok(FlowOutcome::Failed(errno::of(&error))),
        };
        let Some((socket, InboundFlow::Datagram(query))) = arrived else {
            return Ok(FlowOutcome::Lost);
        };
        Ok(FlowOutcome::Reached(FlowEnds {
            listener: socket.number,
            orig_dst: Ok(from),
            server_peer: Some(addr::canonical(query.from)),
            server_local: Some(addr::canonical(query.to)),
            client_peer: addr::reported(client.peer_addr()).or(from),
            client_local: addr::reported(client.local_addr()),
        }))
    }

    /// What carries the number; what was given up and arrives late does not.
    fn wait_for_arrival(&self, limit: Duration) -> Result<Option<(&ListenSocket, InboundFlow)>> {
        let limit = Timespec::try_from(limit)?;
        loop {
            let mut events = Vec::with_capacity(1);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&limit)) {
                Ok(0) => return Ok(None),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for the connection"),
            }
            for event in events {
                let place = event.data.u64();
                if place == CLIENT {
                    return Ok(None);
                }
                let Some(socket) = self.sockets.get(usize::try_from(place)?) else {
                    bail!("an event of a listener that is not there");
                };
                if let Some(arrived) = self.accept(socket) {
                    return Ok(Some((socket, arrived)));
                }
            }
        }
    }

    /// What is at a listener, unless it was reset while it waited, or is one of earlier.
    fn accept(&self, socket: &ListenSocket) -> Option<InboundFlow> {
        if socket.listener.datagrams {
            let query = receive_with_destination(&socket.socket, socket.listener.at).ok()?;
            (query.text == self.number().as_bytes()).then_some(InboundFlow::Datagram(query))
        } else {
            let (server, _) = socket.socket.accept().ok()?;
            self.carries_number(&server)
                .then_some(InboundFlow::Connection(server))
        }
    }

    fn carries_number(&self, mut server: &Socket) -> bool {
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
    let socket = if flow.kind == FlowKind::Connection {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_linger(Some(Duration::ZERO))?;
        socket.set_write_timeout(Some(limit))?;
        socket
    } else {
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_read_timeout(Some(limit))?;
        socket
    };
    if let Some(from) = flow.from {
        socket.bind(&sock_addr(flow, SocketAddr::new(from, 0)))?;
    }
    Ok(socket)
}

fn sock_addr(flow: &Flow, address: SocketAddr) -> socket2::SockAddr {
    if flow.mapped {
        addr::mapped(address).into()
    } else {
        address.into()
    }
}
