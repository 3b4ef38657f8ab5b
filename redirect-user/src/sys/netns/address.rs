//! The local addresses of a network namespace.

use std::net::IpAddr;

use ipnet::IpNet;

/// A local address of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalAddress {
    /// The address.
    pub addr: IpAddr,
    /// Whether connections to the address come from itself. Connections to a secondary IPv4 address
    /// come from the primary address of its subnet.
    pub is_source: bool,
}

/// A range whose addresses are all local to a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalRange {
    /// The range.
    pub net: IpNet,
    /// Whether unbound sockets connect to the range from `::6`.
    pub from_passthrough: bool,
}
