// SPDX-License-Identifier: MIT OR Apache-2.0
//! The outbound traffic policy: a proxy's treatment of unknown destinations, Istio's `outboundTrafficPolicy.mode`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The outbound traffic policy of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboundPolicy {
    /// `ALLOW_ANY`: the proxy passes every connection on to its original destination.
    AllowAny,
    /// `REGISTRY_ONLY`: the proxy closes every connection except those to one registered service.
    RegistryOnly {
        /// The service's address and port.
        registered: SocketAddr,
    },
}

/// The proxy's port for redirected connections.
pub(crate) const CAPTURE_PORT: u16 = 15001;

/// The capture port at both loopback addresses.
pub(crate) const fn capture_addresses() -> [SocketAddr; 2] {
    [
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), CAPTURE_PORT),
        SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), CAPTURE_PORT),
    ]
}
