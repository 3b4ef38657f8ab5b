//! The proxy's listening sockets: the key of the map `LISTENERS`.

use crate::net::BePort;

/// Key of a listening socket of a proxy. One port can have several listening sockets, each of one
/// family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ListenerKey {
    /// The network namespace's cookie.
    pub netns: u64,
    /// The port that the socket listens at.
    pub port: BePort,
    /// [`Self::V4`] or [`Self::V6`], by the address that the socket listens at.
    pub family: u8,
    /// Number of the socket among the sockets of one family, below [`Self::SLOTS`].
    pub slot: u8,
    /// Padding, always zero.
    pub reserved: u32,
}

impl ListenerKey {
    /// The socket listens at an IPv4 address, whichever family the socket itself has.
    pub const V4: u8 = 4;
    /// The socket listens at an IPv6 address; `::` can include IPv4.
    pub const V6: u8 = 6;
    /// The most sockets kept per family. One is enough for all workers of a proxy that share a port
    /// (`SO_REUSEPORT`); the others take over when the first one closes.
    pub const SLOTS: u8 = 16;

    /// The key of the first socket of a family; the keys of the others differ in `slot`.
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

/// The name of the object's global variable that holds the pod's cgroup id in a lookup program.
pub const INBOUND_POD: &str = "INBOUND_POD";
