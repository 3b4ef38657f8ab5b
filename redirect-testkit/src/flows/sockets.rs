// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sockets of a flow runner, on both sides of a pod's link.

use std::{io, net::SocketAddr};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    datagram,
    flow::{FlowListener, Side},
};
use crate::{netns, socket_identity::FsIds};

/// The listeners that a flow runner makes while its process is set up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FlowListeners {
    pub(crate) world: String,
    pub(crate) listeners: Vec<FlowListener>,
}

impl FlowListeners {
    /// Makes the sockets of the world, and leaves the process in the world's namespace. The process must have one
    /// thread only, and not be in the pod yet.
    pub(crate) fn open_in_world(&self) -> Result<WorldSockets> {
        netns::enter(&self.world)?;
        let client = |domain| Socket::new(domain, Type::STREAM, Some(Protocol::TCP));
        Ok(WorldSockets {
            sockets: self.of(Side::World)?,
            clients: [client(Domain::IPV4)?, client(Domain::IPV6)?],
        })
    }

    /// Adds the listeners of the pod. The process must be in the pod's namespace by now.
    pub(crate) fn open_in_pod(&self, mut made: WorldSockets) -> Result<WorldSockets> {
        made.sockets.extend(self.of(Side::Pod)?);
        Ok(made)
    }

    fn of(&self, side: Side) -> Result<Vec<ListenSocket>> {
        let mut ids = FsIds::default();
        let numbered = (0..).zip(&self.listeners);
        let sockets = numbered
            .filter(|(_, listener)| listener.side == side)
            .map(|(number, listener)| {
                ids.take(listener.owner, listener.owner)?;
                let listen = if listener.datagrams {
                    datagram::listen
                } else {
                    listen
                };
                let socket = listen(listener.at)
                    .with_context(|| format!("listen on {} ({side:?})", listener.at))?;
                Ok(ListenSocket {
                    number,
                    listener: *listener,
                    socket,
                })
            })
            .collect();
        ids.take(0, 0)?;
        sockets
    }
}

/// The listeners so far, and the clients of the world.
#[derive(Debug)]
pub(crate) struct WorldSockets {
    pub(super) sockets: Vec<ListenSocket>,
    /// A client socket of IPv4 and one of IPv6. From within the pod no other can be made in the world, so these are
    /// connected again and again.
    pub(super) clients: [Socket; 2],
}

/// The socket of a listener.
#[derive(Debug)]
pub(crate) struct ListenSocket {
    pub(super) number: u16,
    pub(super) listener: FlowListener,
    pub(super) socket: Socket,
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
