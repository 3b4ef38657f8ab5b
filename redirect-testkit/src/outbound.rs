// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a proxy does with destinations it doesn't know: Istio's `outboundTrafficPolicy.mode`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// A proxy's outbound traffic policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboundPolicy {
    /// `ALLOW_ANY`: pass every connection on to its original destination.
    AllowAny,
    /// `REGISTRY_ONLY`: close all but those to one registered service.
    RegistryOnly {
        /// The service's address and port.
        registered: SocketAddr,
    },
}

/// The port that redirected connections arrive at.
pub(crate) const CAPTURE_PORT: u16 = 15001;

/// The capture port on loopback, in both families.
pub(crate) const fn capture_addresses() -> [SocketAddr; 2] {
    [
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), CAPTURE_PORT),
        SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), CAPTURE_PORT),
    ]
}
