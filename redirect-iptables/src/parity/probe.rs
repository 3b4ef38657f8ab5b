//! A connection whose decisions are compared.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use redirect_common::facts::Owner;

use super::Site;
use crate::netfilter::{Packet, Protocol, Via};

/// The direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the pod.
    Outbound,
    /// To the pod.
    Inbound,
}

/// A connection whose decisions are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Probe {
    /// The direction.
    pub direction: Direction,
    /// Whether the protocol is TCP, else UDP.
    pub tcp: bool,
    /// The dialled address, which the kernel may replace.
    pub to: IpAddr,
    /// The dialled port.
    pub port: u16,
    /// Outbound: the address that the socket is bound to. Inbound: the source address.
    pub from: Option<IpAddr>,
    /// The user and group of the socket's owner; none inbound.
    pub owner: Option<(u32, u32)>,
    /// Outbound: the device that the socket is bound to. Inbound: the interface of arrival.
    pub via: Via,
}

impl Probe {
    /// The destination on the wire: IPv4's zero address stands for the address that the socket is bound to, else for
    /// loopback.
    pub fn effective_dst(&self) -> IpAddr {
        let bound = self.from.filter(|_| self.direction == Direction::Outbound);
        match self.to.to_canonical() {
            IpAddr::V4(v4) if v4.is_unspecified() => bound.unwrap_or(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            addr @ (IpAddr::V4(_) | IpAddr::V6(_)) => addr,
        }
    }

    /// The owner of the socket.
    pub fn owner(&self) -> Option<Owner> {
        self.owner.map(|(uid, gid)| Owner { uid, gid })
    }

    /// The first packet, as the pod's rules meet it.
    pub fn packet(&self, site: &Site) -> Packet {
        let destination = self.effective_dst();
        let source = self.from.unwrap_or_else(|| site.source(destination));
        let protocol = if self.tcp {
            Protocol::Tcp
        } else {
            Protocol::Udp
        };
        Packet {
            protocol,
            source,
            source_port: None,
            destination,
            destination_port: self.port,
            via: match self.direction {
                Direction::Outbound if site.is_local(destination) => Via::Loopback,
                Direction::Outbound if self.via == Via::Unnamed => site.interface_to(destination),
                Direction::Outbound | Direction::Inbound => self.via.clone(),
            },
            owner: self.owner(),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.tcp { "tcp" } else { "udp" };
        write!(f, "{protocol} to {}", SocketAddr::new(self.to, self.port))?;
        if let Some((uid, gid)) = self.owner {
            write!(f, " by uid {uid}, gid {gid}")?;
        }
        match (self.direction, self.from) {
            (Direction::Outbound, Some(from)) => write!(f, ", bound to {from}")?,
            (Direction::Inbound, Some(from)) => write!(f, " from {from}")?,
            (_, None) => {}
        }
        match &self.via {
            Via::Named(name) => write!(f, ", over {name}"),
            Via::Loopback | Via::Unnamed => Ok(()),
        }
    }
}
