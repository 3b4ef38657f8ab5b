//! The first packet of a connection, with everything that rules test.

use std::net::IpAddr;

use redirect_common::facts::Owner;

use super::model::Protocol;

/// The first packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The source address on the wire.
    pub source: IpAddr,
    /// The source port, if known: usually the kernel chooses it.
    pub source_port: Option<u16>,
    /// The destination on the wire, in which the kernel has replaced the zero address by loopback.
    pub destination: IpAddr,
    /// The destination port.
    pub destination_port: u16,
    /// The interface: of the route for an outbound packet, of the arrival for an inbound one.
    pub via: Via,
    /// The owner of the socket; none for a packet without a socket, such as one that arrives.
    pub owner: Option<Owner>,
}

/// The interface of a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// `lo`.
    Loopback,
    /// An interface that no rule names.
    Unnamed,
    /// The interface with this name.
    Named(String),
}

impl Via {
    /// The name, if there is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Loopback => Some("lo"),
            Self::Unnamed => None,
            Self::Named(name) => Some(name),
        }
    }
}
