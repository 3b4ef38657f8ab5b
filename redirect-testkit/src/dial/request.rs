// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests to dial: the destination, and the way in which the connection is made.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use socket2::SockAddr;

use crate::{addr, socket_identity::SocketIdentity};

/// The system calls that make the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// A blocking `connect`.
    Blocking,
    /// `connect` on a non-blocking socket, then poll.
    NonBlocking,
    /// `sendto` with `MSG_FASTOPEN`, without any `connect`.
    FastOpen,
    /// `TCP_FASTOPEN_CONNECT`: `connect` returns at once, and the first write sends the SYN.
    FastOpenConnect,
    /// `IORING_OP_CONNECT`: the kernel connects on the caller's behalf, in the caller's thread.
    IoUring,
    /// `IORING_OP_CONNECT`, submitted by the kernel's polling thread (`IORING_SETUP_SQPOLL`).
    IoUringPolled,
    /// A connected UDP socket: `connect`, one datagram out, one datagram back.
    Udp,
}

/// One connection to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Dial {
    /// The destination.
    pub to: SocketAddr,
    /// A local address to bind first.
    pub bind: Option<SocketAddr>,
    /// Whether the connect chooses the source port, not the bind (`IP_BIND_ADDRESS_NO_PORT`).
    pub late_port: bool,
    /// A network device to bind to (`SO_BINDTODEVICE`).
    pub device: Option<String>,
    /// Whether the socket is a multipath one (`IPPROTO_MPTCP`).
    pub multipath: bool,
    /// Whether an IPv4 destination is dialled from an `AF_INET6` socket, as `::ffff:a.b.c.d`.
    pub mapped: bool,
    /// The system calls that make the connection.
    pub mode: Mode,
    /// The bytes to send. The fast open modes send a few bytes in any case.
    pub send: Option<Vec<u8>>,
    /// Whether to read the sent bytes back after the banner.
    pub echo: bool,
    /// Whether to wait for a banner.
    pub banner: bool,
    /// The time limit of the whole dial.
    pub timeout: Duration,
    /// The identities that create and connect the socket, if not the worker's own.
    pub socket_identity: Option<SocketIdentity>,
}

impl Dial {
    /// Makes a blocking dial that waits for a banner, with a limit of two seconds.
    pub const fn to(to: SocketAddr) -> Self {
        Self {
            to,
            bind: None,
            late_port: false,
            device: None,
            multipath: false,
            mapped: false,
            mode: Mode::Blocking,
            send: None,
            echo: false,
            banner: true,
            timeout: Duration::from_secs(2),
            socket_identity: None,
        }
    }

    /// Binds the socket to a local address first.
    #[must_use]
    pub const fn from(mut self, local: SocketAddr) -> Self {
        self.bind = Some(local);
        self
    }

    /// Leaves the choice of the source port to the connect.
    #[must_use]
    pub const fn late_port(mut self) -> Self {
        self.late_port = true;
        self
    }

    /// Binds the socket to a network device.
    #[must_use]
    pub fn device(mut self, name: &str) -> Self {
        self.device = Some(name.to_owned());
        self
    }

    /// Uses a multipath socket.
    #[must_use]
    pub const fn multipath(mut self) -> Self {
        self.multipath = true;
        self
    }

    /// Dials an IPv4 destination from an `AF_INET6` socket.
    #[must_use]
    pub const fn mapped(mut self) -> Self {
        self.mapped = true;
        self
    }

    /// Sets the system calls that make the connection.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sends these bytes.
    #[must_use]
    pub fn send(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.send = Some(bytes.into());
        self
    }

    /// Sends these bytes and reads them back.
    #[must_use]
    pub fn echo(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.send = Some(bytes.into());
        self.echo = true;
        self
    }

    /// Does not wait for a banner.
    #[must_use]
    pub const fn without_banner(mut self) -> Self {
        self.banner = false;
        self
    }

    /// Sets the time limit.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Creates and connects the socket with these identities.
    #[must_use]
    pub const fn socket_identity(mut self, socket_identity: SocketIdentity) -> Self {
        self.socket_identity = Some(socket_identity);
        self
    }

    pub(super) const fn is_ipv6_socket(&self) -> bool {
        self.mapped || self.to.is_ipv6()
    }

    pub(super) fn sock_addr(&self, address: SocketAddr) -> SockAddr {
        if self.mapped {
            addr::mapped(address).into()
        } else {
            address.into()
        }
    }
}

/// Two dials on one socket, which is made as `first` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialSequence {
    /// The first connection.
    pub first: Dial,
    /// Whether to disconnect in between with `connect(AF_UNSPEC)`. Otherwise the second connect fails with `EISCONN`.
    pub disconnect: bool,
    /// The second connection.
    pub second: Dial,
}
