// SPDX-License-Identifier: MIT OR Apache-2.0
//! The servers that a test asks for.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What a server does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Behaviour {
    /// Sends its banner and keeps the connection open.
    Banner,
    /// The same, but the banner says what came of asking for the original destination again, in
    /// the ways of several proxies.
    BannerAndQueries,
    /// Sends its banner, then everything it receives.
    BannerAndEcho,
    /// Waits for a line, sends its banner, and keeps the connection open until the client closes it. If a proxy
    /// says first on whose behalf it comes (`PROXY`, version 1), the banner has the addresses that it
    /// says, as `peer` and `orig_dst`.
    ProxyProtocol,
    /// Answers HTTP/1.1 requests: 200, its name as the `server` header, the banner as body.
    Http,
    /// Asks for the original destination and closes: the bench's server.
    QueryAndClose,
    /// Listens but never accepts.
    NeverAccept,
    /// A UDP socket that answers each datagram with a banner. Listening on a wildcard address
    /// it would answer from whichever address the route prefers, so give it one.
    Udp,
}

/// A server to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Serve {
    /// What it calls itself in greetings.
    pub name: String,
    /// Where it listens; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// For IPv6: whether to turn IPv4-mapped connections away.
    pub v6only: bool,
    /// Whether other servers may listen at the same address (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Whether it takes connections to foreign addresses (`IP_TRANSPARENT`), as TPROXY needs.
    pub transparent: bool,
    /// The listen backlog.
    pub backlog: i32,
    /// Whether it takes multipath connections (`IPPROTO_MPTCP`).
    pub multipath: bool,
    /// What it does.
    pub behaviour: Behaviour,
}

impl Serve {
    /// A banner server, IPv6-only on an IPv6 address.
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

    /// The same, doing something else.
    #[must_use]
    pub const fn behaviour(mut self, behaviour: Behaviour) -> Self {
        self.behaviour = behaviour;
        self
    }

    /// The same, taking IPv4-mapped connections too.
    #[must_use]
    pub const fn dual_stack(mut self) -> Self {
        self.v6only = false;
        self
    }

    /// The same, taking multipath connections too.
    #[must_use]
    pub const fn multipath(mut self) -> Self {
        self.multipath = true;
        self
    }

    /// The same, sharing its address with other servers that do so.
    #[must_use]
    pub const fn reuse_port(mut self) -> Self {
        self.reuse_port = true;
        self
    }

    /// The same, for connections that TPROXY redirects. Takes `CAP_NET_ADMIN`.
    #[must_use]
    pub const fn transparent(mut self) -> Self {
        self.transparent = true;
        self
    }

    /// The same, with another backlog.
    #[must_use]
    pub const fn backlog(mut self, backlog: i32) -> Self {
        self.backlog = backlog;
        self
    }
}
