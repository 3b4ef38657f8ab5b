// SPDX-License-Identifier: MIT OR Apache-2.0
//! UDP scripts: steps on one UDP socket, and the results that the socket's owner sees.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use rustix::net::connect_unspec;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{addr, banner::Banner, errno};

/// Steps on one UDP socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpScript {
    /// Whether the socket is an `AF_INET6` one; IPv4 addresses are then written in their mapped form.
    pub ipv6: bool,
    /// A local address to bind first.
    pub bind: Option<SocketAddr>,
    /// The time to wait for each datagram.
    pub timeout: Duration,
    /// The steps.
    pub steps: Vec<UdpStep>,
}

/// One step of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UdpStep {
    /// `connect`.
    Connect(SocketAddr),
    /// `connect(AF_UNSPEC)`.
    Disconnect,
    /// `send`, to the address that the socket is connected to.
    Send,
    /// `sendto`.
    SendTo(SocketAddr),
    /// `recvfrom`.
    Receive,
}

/// The results of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpStepReport {
    /// The name of the errno, if the step failed; `EAGAIN` if no datagram arrived.
    pub error: Option<String>,
    /// The source address of the datagram.
    pub from: Option<SocketAddr>,
    /// The banner in the datagram.
    pub banner: Option<Banner>,
    /// The result of `getpeername`, if the socket is connected.
    pub peername: Option<SocketAddr>,
    /// The result of `getsockname`.
    pub sockname: Option<SocketAddr>,
}

impl UdpScript {
    /// Makes a script for an IPv4 socket, or an IPv6 socket if a step has an IPv6 address, with a timeout of two
    /// seconds.
    pub fn new(steps: impl Into<Vec<UdpStep>>) -> Self {
        let steps = steps.into();
        let ipv6 = steps.iter().any(|step| match step {
            UdpStep::Connect(to) | UdpStep::SendTo(to) => to.is_ipv6(),
            UdpStep::Disconnect | UdpStep::Send | UdpStep::Receive => false,
        });
        Self {
            ipv6,
            bind: None,
            timeout: Duration::from_secs(2),
            steps,
        }
    }

    /// Uses an `AF_INET6` socket.
    #[must_use]
    pub const fn ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// Binds the socket to a local address first.
    #[must_use]
    pub const fn from(mut self, local: SocketAddr) -> Self {
        self.bind = Some(local);
        self
    }

    /// Sets the timeout.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    const fn addressed(&self, address: SocketAddr) -> SocketAddr {
        if self.ipv6 {
            addr::mapped(address)
        } else {
            address
        }
    }
}

/// Takes the steps. If the socket cannot be made or bound, the test is wrong, so the result is an error.
pub(crate) fn run(request: &UdpScript) -> io::Result<Vec<UdpStepReport>> {
    let domain = if request.ipv6 {
        Domain::IPV6
    } else {
        Domain::IPV4
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if request.ipv6 {
        socket.set_only_v6(false)?;
    }
    if let Some(local) = request.bind {
        socket.bind(&request.addressed(local).into())?;
    }
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(request.timeout))?;
    let steps = request.steps.iter();
    Ok(steps.map(|step| take(&socket, request, *step)).collect())
}

fn take(socket: &UdpSocket, request: &UdpScript, step: UdpStep) -> UdpStepReport {
    let mut received = None;
    let result = match step {
        UdpStep::Connect(to) => socket.connect(request.addressed(to)),
        UdpStep::Disconnect => connect_unspec(socket).map_err(Into::into),
        UdpStep::Send => socket.send(b"who?").map(drop),
        UdpStep::SendTo(to) => socket.send_to(b"who?", request.addressed(to)).map(drop),
        UdpStep::Receive => receive(socket).map(|datagram| received = Some(datagram)),
    };
    let (from, banner) = received.unzip();
    UdpStepReport {
        error: result.err().map(|error| errno::name(errno::of(&error))),
        from,
        banner: banner.flatten(),
        peername: socket.peer_addr().ok().map(addr::canonical),
        sockname: socket.local_addr().ok().map(addr::canonical),
    }
}

fn receive(socket: &UdpSocket) -> io::Result<(SocketAddr, Option<Banner>)> {
    let mut chunk = [0; 2048];
    let (count, from) = socket.recv_from(&mut chunk)?;
    let text = String::from_utf8_lossy(chunk.get(..count).unwrap_or_default());
    Ok((addr::canonical(from), Banner::parse(&text)))
}
