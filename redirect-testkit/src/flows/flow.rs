// SPDX-License-Identifier: MIT OR Apache-2.0
//! A flow: one connection or datagram to make, and the addresses that both of its ends see.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::errno;

/// The side of the pod's link that a socket is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Side {
    /// The pod's cgroup and network namespace.
    Pod,
    /// The world's network namespace, outside of any pod's cgroup.
    World,
}

/// A listener of the process that runs flows. Its index in the list identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowListener {
    /// The side that the listener is on.
    pub side: Side,
    /// Whether the listener receives datagrams and answers each, instead of accepting connections.
    pub datagrams: bool,
    /// The `fsuid` and `fsgid` of the thread that creates the socket.
    pub owner: u32,
    /// The address. On an IPv6 address, the listener refuses IPv4-mapped connections.
    pub at: SocketAddr,
}

/// The kind of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FlowKind {
    /// A TCP connection.
    Connection,
    /// A datagram from a UDP socket that is connected first.
    ConnectedDatagram,
    /// A datagram from a UDP socket that is not connected: `sendto`.
    Datagram,
}

/// One connection to make, or one datagram to send and get an answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// The side that the client is on. The world has one client socket per family, root's, for TCP connections only.
    pub client: Side,
    /// The `fsuid` of the thread that creates the socket, which iptables' owner match reads.
    pub uid: u32,
    /// The `fsgid` of that thread.
    pub gid: u32,
    /// The kind of a flow.
    pub kind: FlowKind,
    /// The destination.
    pub to: SocketAddr,
    /// Whether an IPv4 destination is dialled from an `AF_INET6` socket, as `::ffff:a.b.c.d`.
    pub mapped: bool,
    /// A local address to bind first, of the destination's family.
    pub from: Option<IpAddr>,
}

/// The outcome of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlowOutcome {
    /// The flow reached a listener, and a datagram was also answered.
    Reached(FlowEnds),
    /// A connection: `connect` failed with this errno, `ETIMEDOUT` also if the limit was reached. A datagram:
    /// sending or receiving failed, with `EAGAIN` if no answer came within the limit.
    Failed(i32),
    /// `connect` succeeded, but no listener has the connection.
    Lost,
}

impl FlowOutcome {
    /// The errno's name, if the flow failed.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        match self {
            Self::Failed(errno) => Some(errno::name(*errno)),
            Self::Reached(_) | Self::Lost => None,
        }
    }
}

/// The addresses that both ends of a flow see. IPv4-mapped addresses are in IPv4 form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEnds {
    /// The listener that the flow reached, by its index in the list.
    pub listener: u16,
    /// A connection: `SO_ORIGINAL_DST` of the accepted socket, or the errno. A datagram: the source of the answer.
    pub orig_dst: Result<Option<SocketAddr>, i32>,
    /// A connection: `getpeername` of the accepted socket. A datagram: its source at the listener.
    pub server_peer: Option<SocketAddr>,
    /// A connection: `getsockname` of the accepted socket. A datagram: its destination at the listener.
    pub server_local: Option<SocketAddr>,
    /// `getpeername` of the client; if the client is not connected, the source of the answer.
    pub client_peer: Option<SocketAddr>,
    /// `getsockname` of the client.
    pub client_local: Option<SocketAddr>,
}

/// Flows to run one after the other, and the time limit of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlowBatch {
    pub(crate) flows: Vec<Flow>,
    pub(crate) limit_ms: u64,
}
