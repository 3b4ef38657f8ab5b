// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection or datagram to make, and what both of its ends saw.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::errno;

/// Where a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Side {
    /// In the pod's cgroup and network namespace.
    Pod,
    /// In the world's namespace, outside of any pod's cgroup.
    World,
}

/// A listener of both ends' process. Its place in the list is its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowListener {
    /// Where it is.
    pub side: Side,
    /// Whether it takes datagrams, and answers each of them, instead of connections.
    pub datagrams: bool,
    /// `fsuid` and `fsgid` of who makes it.
    pub owner: u32,
    /// Its address. On an IPv6 address it turns IPv4-mapped connections away.
    pub at: SocketAddr,
}

/// How the destination is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FlowKind {
    /// A TCP connection.
    Connection,
    /// A datagram from a UDP socket that is connected first.
    ConnectedDatagram,
    /// A datagram from a UDP socket that is not: `sendto`.
    Datagram,
}

/// One connection to make, or one datagram to send and have answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// Where the socket is. The world has one of each family, root's, for TCP connections only.
    pub client: Side,
    /// `fsuid` of the thread that makes the socket, which is what owner matches read.
    pub uid: u32,
    /// `fsgid` of that thread.
    pub gid: u32,
    /// How the destination is reached.
    pub kind: FlowKind,
    /// The destination.
    pub to: SocketAddr,
    /// Whether an IPv4 destination is dialled from an `AF_INET6` socket, as `::ffff:a.b.c.d`.
    pub mapped: bool,
    /// A local address to bind first, of the destination's family.
    pub from: Option<IpAddr>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlowOutcome {
    /// It reached a listener; a datagram was also answered.
    Reached(FlowEnds),
    /// `connect` failed with this errno; `ETIMEDOUT` also if the limit was reached. For datagrams
    /// sending or receiving failed; `EAGAIN` if no answer came within the limit.
    Failed(i32),
    /// `connect` succeeded, and none of the listeners has it.
    Lost,
}

impl FlowOutcome {
    /// The errno's name, if it failed.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        match self {
            Self::Failed(errno) => Some(errno::name(*errno)),
            Self::Reached(_) | Self::Lost => None,
        }
    }
}

/// A connection, or a datagram and its answer, as both of its ends saw it. IPv4-mapped addresses
/// are in IPv4 form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEnds {
    /// The listener that it reached, by its place in the list.
    pub listener: u16,
    /// `SO_ORIGINAL_DST` of the accepted socket, or the errno. Of a datagram, whom the answer came
    /// from.
    pub orig_dst: Result<Option<SocketAddr>, i32>,
    /// `getpeername` of the accepted socket, or whom the datagram came from.
    pub server_peer: Option<SocketAddr>,
    /// `getsockname` of the accepted socket, or where the datagram was sent to.
    pub server_local: Option<SocketAddr>,
    /// `getpeername` of the client; if it is not connected, whom the answer came from.
    pub client_peer: Option<SocketAddr>,
    /// `getsockname` of the client.
    pub client_local: Option<SocketAddr>,
}

/// Connections to make one after the other, and the limit of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlowBatch {
    pub(crate) flows: Vec<Flow>,
    pub(crate) limit_ms: u64,
}
