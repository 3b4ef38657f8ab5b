//! Addresses of network namespaces: key and flags of the map of local addresses.

use super::flags::flag_set;
use crate::net::BeAddr;

/// Key of the map of local addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct LocalKey {
    /// The network namespace's cookie, as `SO_NETNS_COOKIE` gives it.
    pub netns: u64,
    /// The address.
    pub addr: BeAddr,
}

flag_set! {
    /// What an address is to a network namespace.
    LocalFlags {
        /// The namespace's own.
        OWN = 0, is_own;
        /// A subnet's broadcast address.
        BROADCAST = 1, is_broadcast;
        /// Own, and connections to it come from itself: every IPv6 one, and of IPv4 the primary one
        /// of a subnet.
        SOURCE = 2, is_source;
    }
}
