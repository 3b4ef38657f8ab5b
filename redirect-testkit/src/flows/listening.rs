// SPDX-License-Identifier: MIT OR Apache-2.0
//! Listeners on both sides of a pod's link.

use std::{io, net::SocketAddr};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    datagram,
    flow::{Listener, Side},
};
use crate::{guise::FsIds, netns};

/// Listeners that a worker makes while it becomes who it should be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Listening {
    pub(crate) world: String,
    pub(crate) listeners: Vec<Listener>,
}

impl Listening {
    /// Makes those of the world. The process must have one thread only and not be in the pod yet;
    /// it is in the world's namespace afterwards.
    pub(crate) fn of_the_world(&self) -> Result<Abroad> {
        netns::enter(&self.world)?;
        let visitor = |domain| Socket::new(domain, Type::STREAM, Some(Protocol::TCP));
        Ok(Abroad {
            ears: self.of(Side::World)?,
            visitors: [visitor(Domain::IPV4)?, visitor(Domain::IPV6)?],
        })
    }

    /// Adds those of the pod, where the process has to be by now.
    pub(crate) fn of_the_pod(&self, mut abroad: Abroad) -> Result<Abroad> {
        abroad.ears.extend(self.of(Side::Pod)?);
        Ok(abroad)
    }

    fn of(&self, side: Side) -> Result<Vec<Ear>> {
        let mut ids = FsIds::default();
        let numbered = (0..).zip(&self.listeners);
        let ears = numbered
            .filter(|(_, listener)| listener.side == side)
            .map(|(number, listener)| {
                ids.take(listener.owner, listener.owner)?;
                let listen = if listener.datagrams {
                    datagram::listen
                } else {
                    listen
                };
                let socket = listen(listener.at)
                    .with_context(|| format!("listening on {} ({side:?})", listener.at))?;
                Ok(Ear {
                    number,
                    listener: *listener,
                    socket,
                })
            })
            .collect();
        ids.take(0, 0)?;
        ears
    }
}

/// What was made in the world's namespace.
#[derive(Debug)]
pub(crate) struct Abroad {
    pub(super) ears: Vec<Ear>,
    /// A client socket of IPv4 and one of IPv6. No other can be made there from within the pod, so
    /// they are connected over and over.
    pub(super) visitors: [Socket; 2],
}

/// A listener that listens.
#[derive(Debug)]
pub(crate) struct Ear {
    pub(super) number: u16,
    pub(super) listener: Listener,
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
