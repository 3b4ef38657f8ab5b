//! The proxy's listening sockets: the key of their map.

use crate::net::BePort;

/// Key of a listening socket of a proxy. Several sockets can listen at one port, in one family each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ListenerKey {
    /// The network namespace's cookie.
    pub netns: u64,
    /// The port.
    pub port: BePort,
    /// [`Self::V4`] or [`Self::V6`], by the address that it listens at.
    pub family: u8,
    /// Which of a family's sockets it is, below [`Self::SLOTS`].
    pub slot: u8,
    /// Zero.
    pub reserved: u32,
}

impl ListenerKey {
    /// It listens at an IPv4 address, of whichever family the socket is.
    pub const V4: u8 = 4;
    /// It listens at an IPv6 address; at `::` that can include IPv4.
    pub const V6: u8 = 6;
    /// How many sockets are kept for each family. One is enough for all workers of a proxy that
    /// share a port (`SO_REUSEPORT`); the others take over when it closes.
    pub const SLOTS: u8 = 16;

    /// The key of the first socket; others differ in `slot`.
    #[must_use]
    #[inline(always)]
    pub const fn first(netns: u64, port: BePort, family: u8) -> Self {
        Self {
            netns,
            port,
            family,
            slot: 0,
            reserved: 0,
        }
    }
}

/// The name of the object's global that says which pod a lookup program is loaded for.
pub const INBOUND_POD: &str = "INBOUND_POD";
