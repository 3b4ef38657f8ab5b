// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connections that a test asks for: how they are made, and where to.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use socket2::SockAddr;

use crate::{addr, socket_identity::SocketIdentity};

/// How the connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// `connect` that waits.
    Blocking,
    /// `connect` on a non-blocking socket, then poll.
    NonBlocking,
    /// No `connect` at all: `sendto` with `MSG_FASTOPEN`.
    FastOpen,
    /// `TCP_FASTOPEN_CONNECT`: `connect` returns at once, the first write sends the SYN.
    FastOpenConnect,
    /// `IORING_OP_CONNECT`: the kernel connects on the caller's behalf, in the caller's thread.
    IoUring,
    /// The same, submitted by the kernel's own polling thread (`IORING_SETUP_SQPOLL`).
    IoUringPolled,
    /// A connected UDP socket: `connect`, one datagram, one datagram back.
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
    /// Leave the choice of a source port to the connect (`IP_BIND_ADDRESS_NO_PORT`).
    pub late_port: bool,
    /// A network device to bind to (`SO_BINDTODEVICE`).
    pub device: Option<String>,
    /// Whether the socket is a multipath one (`IPPROTO_MPTCP`).
    pub multipath: bool,
    /// Dial an IPv4 destination from an `AF_INET6` socket, as `::ffff:a.b.c.d`.
    pub mapped: bool,
    /// How.
    pub mode: Mode,
    /// Bytes to send; the fast open modes send a little in any case.
    pub send: Option<Vec<u8>>,
    /// Whether to read the sent bytes back after the banner.
    pub echo: bool,
    /// Whether to wait for a banner.
    pub banner: bool,
    /// The limit for the whole dial.
    pub timeout: Duration,
    /// Who makes and who connects the socket, if not simply the worker.
    pub socket_identity: Option<SocketIdentity>,
}

impl Dial {
    /// A blocking dial of two seconds at most that waits for a banner.
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

    /// The same, bound to a local address first.
    #[must_use]
    pub const fn from(mut self, local: SocketAddr) -> Self {
        self.bind = Some(local);
        self
    }

    /// The same, bound to an address whose port is chosen only when it connects.
    #[must_use]
    pub const fn late_port(mut self) -> Self {
        self.late_port = true;
        self
    }

    /// The same, bound to a network device.
    #[must_use]
    pub fn device(mut self, name: &str) -> Self {
        self.device = Some(name.to_owned());
        self
    }

    /// The same, from a multipath socket.
    #[must_use]
    pub const fn multipath(mut self) -> Self {
        self.multipath = true;
        self
    }

    /// The same, from an `AF_INET6` socket.
    #[must_use]
    pub const fn mapped(mut self) -> Self {
        self.mapped = true;
        self
    }

    /// The same, made another way.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The same, sending these bytes.
    #[must_use]
    pub fn send(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.send = Some(bytes.into());
        self
    }

    /// The same, sending these bytes and reading them back.
    #[must_use]
    pub fn echo(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.send = Some(bytes.into());
        self.echo = true;
        self
    }

    /// The same, without waiting for a banner.
    #[must_use]
    pub const fn without_banner(mut self) -> Self {
        self.banner = false;
        self
    }

    /// The same, with another limit.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same, with a socket made and connected by these identities.
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

/// Dial `first`, optionally disconnect with `connect(AF_UNSPEC)`, then dial `second`: all on one
/// socket, made as `first` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialSequence {
    /// The first connection.
    pub first: Dial,
    /// Whether to disconnect in between; without it the second connect should fail, `EISCONN`.
    pub disconnect: bool,
    /// The second connection, on the same socket.
    pub second: Dial,
}
