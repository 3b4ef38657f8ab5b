// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runner of flows, which holds both ends of each.

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

/// The time that a connection may take from the client to the listener. Both are in one kernel, so only a machine
/// that stands still needs this long.
const DELIVERY: Duration = Duration::from_secs(2);
/// The client in epoll's events, which otherwise carry a listener's index.
const CLIENT: u64 = u64::MAX;

/// A connection or a datagram that has arrived at a listener.
#[derive(Debug)]
enum InboundFlow {
    Connection(Socket),
    Datagram(Datagram),
}

/// The listeners of both sides, and an epoll set that reports which of them is reached.
#[derive(Debug)]
pub(crate) struct FlowRunner {
    sockets: Vec<ListenSocket>,
    clients: [Socket; 2],
    epoll: OwnedFd,
    /// The number that the present flow carries.
    next: u64,
    ids: FsIds,
}

impl FlowRunner {
    pub(crate) fn new(WorldSockets { sockets, clients }: WorldSockets) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("make an epoll set")?;
        for (index, socket) in (0..).zip(&sockets) {
            epoll::add(
                &epoll,
                &socket.socket,
                EventData::new_u64(index),
                EventFlags::IN,
            )
            .context("fill the epoll set")?;
        }
        Ok(Self {
            sockets,
            clients,
            epoll,
            next: 0,
            ids: FsIds::default(),
        })
    }

    /// Runs flows one after the other.
    pub(crate) fn run(&mut self, batch: &FlowBatch) -> Result<Vec<FlowOutcome>> {
        let limit = Duration::from_millis(batch.limit_ms);
        batch
            .flows
            .iter()
            .map(|flow| {
                self.run_flow(flow, limit)
                    .with_context(|| format!("run {flow:?}"))
            })
            .collect()
    }

    /// Runs one flow. A failure of the flow itself is an outcome; an error is a failure of the runner.
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

    /// The client socket of the world, disconnected.
    fn world_client(&self, flow: &Flow, limit: Duration) -> io::Result<Socket> {
        let [v4, v6] = &self.clients;
        let client = if flow.to.is_ipv4() { v4 } else { v6 };
        connect_unspec(client)?;
        client.set_write_timeout(Some(limit))?;
        client.try_clone()
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
        // The client is closed first: its reset ends the other end as well.
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
        // The client's socket gets the error if no listener is there. Closing it takes it out of the epoll set.
        epoll::add(
            &self.epoll,
            client,
            EventData::new_u64(CLIENT),
            EventFlags::IN,
        )?;
        let arrived = self.wait_for_arrival(limit)?;
        if let Some((socket, InboundFlow::Datagram(query))) = &arrived {
            datagram::answer(&socket.socket, query).context("answer the datagram")?;
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

    /// Waits for the arrival that carries the present number. Late arrivals of flows that were given up are skipped.
    fn wait_for_arrival(&self, limit: Duration) -> Result<Option<(&ListenSocket, InboundFlow)>> {
        let limit = Timespec::try_from(limit)?;
        loop {
            let mut events = Vec::with_capacity(1);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&limit)) {
                Ok(0) => return Ok(None),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("wait for the flow to arrive"),
            }
            for event in events {
                let index = event.data.u64();
                if index == CLIENT {
                    return Ok(None);
                }
                let Some(socket) = self.sockets.get(usize::try_from(index)?) else {
                    bail!("wait for the flow to arrive: an event has no listener");
                };
                if let Some(arrived) = self.accept(socket) {
                    return Ok(Some((socket, arrived)));
                }
            }
        }
    }

    /// Accepts the arrival at a listener, unless it was reset while it waited, or is of an earlier flow.
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

    /// The number of the present flow, as the flow carries it.
    fn number(&self) -> String {
        format!("{:016x}", self.next)
    }
}

/// Makes a client socket. Closing it resets the connection, so that neither end waits in TIME-WAIT and ports do not
/// run out.
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
