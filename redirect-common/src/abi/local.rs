//! Local addresses of network namespaces: key and flags of the map `LOCALS`.

use super::flags::flag_set;
use crate::net::BeAddr;

/// Key of the map `LOCALS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct LocalKey {
    /// The network namespace's cookie, as `SO_NETNS_COOKIE` returns it.
    pub netns: u64,
    /// The address.
    pub addr: BeAddr,
}

flag_set! {
    /// Properties that an address has in a network namespace.
    LocalFlags {
        /// A local address of the namespace.
        LOCAL = 0, is_local;
        /// The broadcast address of a subnet.
        BROADCAST = 1, is_broadcast;
        /// A local address from which connections to itself come: every local IPv6 address, and in
        /// IPv4 the primary address of a subnet.
        SOURCE = 2, is_source;
    }
}
