//! Socket addresses in the form that system calls use: `sockaddr_in` and `sockaddr_in6`.
#![expect(
    clippy::cast_possible_truncation,
    reason = "address families have 16 bits here"
)]

use redirect_common::net::{BeAddr, BePort};

use super::field::{AF_INET, AF_INET6};

/// An IPv4 address and a port in the form that system calls use: `struct sockaddr_in`.
#[repr(C)]
pub(crate) struct SockAddrIn {
    family: u16,
    port: u16,
    addr: u32,
    zero: [u32; 2],
}

impl SockAddrIn {
    /// Creates the form of an IPv4 address.
    #[inline(always)]
    pub(crate) const fn new(addr: BeAddr, port: BePort) -> Self {
        Self {
            family: AF_INET as u16,
            port: port.to_network(),
            addr: addr.word4(),
            zero: [0; 2],
        }
    }
}

/// The same for IPv6: `struct sockaddr_in6`.
#[repr(C)]
pub(crate) struct SockAddrIn6 {
    family: u16,
    port: u16,
    flowinfo: u32,
    addr: [u32; 4],
    scope_id: u32,
}

impl SockAddrIn6 {
    /// Creates the form of an address of either family. IPv4 becomes IPv4-mapped.
    #[inline(always)]
    pub(crate) const fn new(addr: BeAddr, port: BePort) -> Self {
        Self {
            family: AF_INET6 as u16,
            port: port.to_network(),
            flowinfo: 0,
            addr: addr.words(),
            scope_id: 0,
        }
    }
}
