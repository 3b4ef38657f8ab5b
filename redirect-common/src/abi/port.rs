//! Ports: key and flags of a policy's map in `PORTS`.

use super::flags::flag_set;
use crate::net::BePort;

/// Key of a policy's map of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct PortKey {
    /// The destination port.
    pub port: BePort,
    /// [`PortKey::OUTBOUND`] or [`PortKey::INBOUND`].
    pub direction: u8,
    /// The IP protocol number.
    pub protocol: u8,
}

impl PortKey {
    /// Direction of connections that the pod makes.
    pub const OUTBOUND: u8 = 0;
    /// Direction of connections that arrive at the pod.
    pub const INBOUND: u8 = 1;
    /// The protocol number of TCP (`IPPROTO_TCP`).
    pub const TCP: u8 = 6;

    /// The key of an outbound TCP port.
    #[must_use]
    pub const fn outbound_tcp(port: BePort) -> Self {
        Self::tcp(port, Self::OUTBOUND)
    }

    /// The key of an inbound TCP port.
    #[must_use]
    pub const fn inbound_tcp(port: BePort) -> Self {
        Self::tcp(port, Self::INBOUND)
    }

    const fn tcp(port: BePort, direction: u8) -> Self {
        Self {
            port,
            direction,
            protocol: Self::TCP,
        }
    }
}

flag_set! {
    /// Properties of a port under a policy.
    PortFlags {
        /// Connections to the port are never redirected (`-o`, `-d`).
        EXCLUDED = 0, excluded;
        /// Connections to the port are redirected unless excluded (`-q`, `-b`).
        INCLUDED = 1, included;
    }
}
