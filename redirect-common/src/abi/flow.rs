//! One redirected connection: the key of its handshake, and the record kept with its sockets.

use super::Serial;
use crate::net::{BeAddr, BePort};

/// Key of a handshake in progress, seen from the client. An IPv4-mapped address equals its IPv4
/// form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey {
    /// The network namespace's cookie.
    pub netns: u64,
    /// The client's address.
    pub src: BeAddr,
    /// The address the client really connects to, which is the proxy's.
    pub dst: BeAddr,
    /// The client's port.
    pub src_port: BePort,
    /// The proxy's port.
    pub dst_port: BePort,
    /// Padding, always zero.
    pub reserved: u32,
}

/// The end of a connection that a socket is, and how far the connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Role(u8);

impl Role {
    /// The application's end; the decision is made, nothing is sent yet.
    pub const DECIDED: Self = Self(1);
    /// The application's end; the handshake has begun.
    pub const CLIENT: Self = Self(2);
    /// The proxy's end.
    pub const SERVER: Self = Self(3);
    /// The application's end of a connection in shadow mode: nothing is redirected.
    pub const SHADOW: Self = Self(4);
    /// A listening socket at the proxy's inbound port. An accepted socket has this role too until
    /// it gets its own: the kernel gives it a copy of the listening socket's record.
    pub const LISTENER: Self = Self(5);
    /// The proxy's end of an inbound connection that was made to a port other than the proxy's.
    pub const INBOUND: Self = Self(6);
    /// The pod's end of an inbound connection whose addresses are shown unchanged.
    pub const ACCEPTED: Self = Self(7);

    /// Whether the socket is the application's end of a redirected connection.
    #[must_use]
    pub const fn is_client(self) -> bool {
        self.0 == Self::DECIDED.0 || self.0 == Self::CLIENT.0
    }

    /// Equality that compiles to one comparison.
    #[must_use]
    pub const fn same(self, other: Self) -> bool {
        self.0 == other.0
    }
}

/// The record of a connection's original destination, stored with both of its sockets in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct OrigDst {
    /// The address the application dialled.
    pub addr: BeAddr,
    /// The port the application dialled.
    pub port: BePort,
    /// The proxy's port that the connection was sent to, or that the socket listens at. In shadow
    /// mode 0 if the connection would be left alone.
    pub target: BePort,
    /// The serial of the row that decided.
    pub serial: Serial,
    /// The end of the connection that this socket is.
    pub role: Role,
    /// The rule that decided, by [`RuleId::index`](crate::chain::RuleId::index). 0 before a
    /// decision, and for inbound connections.
    pub rule: u8,
    /// Not zero if the application chose its source address with `bind`: that address is shown
    /// unchanged. If zero, the redirect made the kernel choose a loopback source.
    pub bound: u8,
    /// Padding, always zero.
    pub reserved: u8,
}

impl OrigDst {
    /// The record that marks a listening socket at the proxy's inbound port.
    #[must_use]
    pub const fn of_listener(port: BePort) -> Self {
        Self {
            addr: BeAddr::ANY,
            port,
            target: port,
            serial: Serial::NONE,
            role: Role::LISTENER,
            rule: 0,
            bound: 0,
            reserved: 0,
        }
    }
}
