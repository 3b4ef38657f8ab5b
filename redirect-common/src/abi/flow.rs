//! One redirected connection: the key of its handshake, and the record of its sockets.

use super::Serial;
use crate::net::{BeAddr, BePort};

/// Key of a handshake under way, seen from the client. IPv4-mapped and IPv4 are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey {
    /// The network namespace's cookie.
    pub netns: u64,
    /// The client's address.
    pub src: BeAddr,
    /// The address the client really connects to.
    pub dst: BeAddr,
    /// The client's port.
    pub src_port: BePort,
    /// The proxy's port.
    pub dst_port: BePort,
    /// Zero.
    pub reserved: u32,
}

/// Which end of a connection a socket is, and how far it got.
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
    /// A socket of the proxy that listens at its inbound port, and what it accepts until that has a
    /// role of its own: the kernel gives an accepted socket a copy of its listener's record.
    pub const LISTENER: Self = Self(5);
    /// The proxy's end of an inbound connection that was made to another port than its own.
    pub const INBOUND: Self = Self(6);
    /// The end of an inbound connection that shows as it is.
    pub const ACCEPTED: Self = Self(7);

    /// Whether it is the application's end.
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

/// A connection's original destination, kept with each of its two sockets in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct OrigDst {
    /// The address the application dialled.
    pub addr: BeAddr,
    /// The port the application dialled.
    pub port: BePort,
    /// The proxy's port the connection was sent to, or that a socket listens at; 0 in shadow mode
    /// if it would be left alone.
    pub target: BePort,
    /// The row that decided.
    pub serial: Serial,
    /// Which end this is.
    pub role: Role,
    /// The rule that decided, by [`RuleId::index`](crate::chain::RuleId::index); 0 where none did yet,
    /// and inbound.
    pub rule: u8,
    /// Not zero if the application chose its source address, by `bind`. Then that address is shown
    /// as it is; otherwise a loopback source was chosen by the redirect.
    pub bound: u8,
    /// Zero.
    pub reserved: u8,
}

impl OrigDst {
    /// The mark of a socket that listens at the proxy's inbound port.
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
