// SPDX-License-Identifier: MIT OR Apache-2.0
//! Socket addresses as this kit reports them: IPv4-mapped addresses in their IPv4 form.

use std::net::{SocketAddr, SocketAddrV6};

use socket2::SockAddr;

/// Converts an IPv4-mapped address, `::ffff:a.b.c.d`, to `a.b.c.d`; other addresses stay.
pub(crate) const fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Converts an IPv4 address to its IPv4-mapped form; IPv6 addresses stay.
pub(crate) const fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(v4) => {
            SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0))
        }
        SocketAddr::V6(_) => addr,
    }
}

/// The address that a system call returned; none if the call failed, or for another address family.
pub(crate) fn reported(addr: std::io::Result<SockAddr>) -> Option<SocketAddr> {
    addr.ok().and_then(|addr| addr.as_socket()).map(canonical)
}
