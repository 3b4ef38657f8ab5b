// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests to start a server.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The behaviour of a server on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Behaviour {
    /// Sends its banner and keeps the connection open.
    Banner,
    /// Sends its banner with further queries for the original destination, as several proxies make them, and keeps
    /// the connection open.
    BannerAndQueries,
    /// Sends its banner, then echoes everything.
    BannerAndEcho,
    /// Waits for a line, sends its banner, and keeps the connection open until the client closes it. If the line is
    /// a header of the PROXY protocol (version 1), the banner has its addresses as `peer` and `orig_dst`.
    ProxyProtocol,
    /// Answers HTTP/1.1 requests with status 200, its name as the `server` header, and the banner as body.
    Http,
    /// Asks for the original destination and closes: the bench's server.
    QueryAndClose,
    /// Listens but never accepts.
    NeverAccept,
    /// Answers each datagram with a banner, from a UDP socket. The socket needs a specific address: on a wildcard
    /// address it would answer from the address that the route prefers.
    Udp,
}

/// A server to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Serve {
    /// The server's name in its banners.
    pub name: String,
    /// The address to listen at. With port 0 the kernel chooses the port.
    pub listen: SocketAddr,
    /// Whether an IPv6 server refuses IPv4-mapped connections.
    pub v6only: bool,
    /// Whether other servers may listen at the same address (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Whether the server takes connections to foreign addresses (`IP_TRANSPARENT`), as TPROXY needs.
    pub transparent: bool,
    /// The listen backlog.
    pub backlog: i32,
    /// Whether the server takes multipath connections (`IPPROTO_MPTCP`).
    pub multipath: bool,
    /// The behaviour on a connection.
    pub behaviour: Behaviour,
}

impl Serve {
    /// Makes a server that sends banners. On an IPv6 address it serves IPv6 only.
    pub fn new(name: &str, listen: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            listen,
            v6only: true,
            reuse_port: false,
            transparent: false,
            backlog: 4096,
            multipath: false,
            behaviour: Behaviour::Banner,
        }
    }

    /// Sets the behaviour.
    #[must_use]
    pub const fn behaviour(mut self, behaviour: Behaviour) -> Self {
        self.behaviour = behaviour;
        self
    }

    /// Takes IPv4-mapped connections too.
    #[must_use]
    pub const fn dual_stack(mut self) -> Self {
        self.v6only = false;
        self
    }

    /// Takes multipath connections too.
    #[must_use]
    pub const fn multipath(mut self) -> Self {
        self.multipath = true;
        self
    }

    /// Shares the address with other servers that do so.
    #[must_use]
    pub const fn reuse_port(mut self) -> Self {
        self.reuse_port = true;
        self
    }

    /// Takes connections that TPROXY redirects. Requires `CAP_NET_ADMIN`.
    #[must_use]
    pub const fn transparent(mut self) -> Self {
        self.transparent = true;
        self
    }

    /// Sets the backlog.
    #[must_use]
    pub const fn backlog(mut self, backlog: i32) -> Self {
        self.backlog = backlog;
        self
    }
}
