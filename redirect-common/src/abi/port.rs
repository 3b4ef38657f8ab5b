//! Ports: key and flags of the port map.

use super::{PolicyId, flags::flag_set};
use crate::net::BePort;

/// Key of the port map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct PortKey {
    /// Whose port.
    pub policy: PolicyId,
    /// The destination port.
    pub port: BePort,
    /// [`PortKey::OUTBOUND`] or [`PortKey::INBOUND`].
    pub direction: u8,
    /// The IP protocol number.
    pub protocol: u8,
}

impl PortKey {
    /// Outbound, seen from the pod.
    pub const OUTBOUND: u8 = 0;
    /// Inbound.
    pub const INBOUND: u8 = 1;
    /// `IPPROTO_TCP`.
    pub const TCP: u8 = 6;

    /// The key of an outbound TCP port.
    #[must_use]
    pub const fn outbound_tcp(policy: PolicyId, port: BePort) -> Self {
        Self::tcp(policy, port, Self::OUTBOUND)
    }

    /// The key of an inbound TCP port.
    #[must_use]
    pub const fn inbound_tcp(policy: PolicyId, port: BePort) -> Self {
        Self::tcp(policy, port, Self::INBOUND)
    }

    const fn tcp(policy: PolicyId, port: BePort, direction: u8) -> Self {
        Self {
            policy,
            port,
            direction,
            protocol: Self::TCP,
        }
    }
}

flag_set! {
    /// What a port is.
    PortFlags {
        /// Never redirected (`-o`, `-d`).
        EXCLUDED = 0, excluded;
        /// Always redirected unless excluded (`-q`, `-b`).
        INCLUDED = 1, included;
    }
}
