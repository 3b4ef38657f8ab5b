//! A connection that both sides are asked about.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use redirect_common::facts::Owner;

use super::Site;
use crate::netfilter::{Packet, Protocol, Via};

/// Which way a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The pod makes it.
    Outbound,
    /// It arrives at the pod.
    Inbound,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Probe {
    /// Which way it goes.
    pub direction: Direction,
    /// Whether it is TCP, else UDP.
    pub tcp: bool,
    /// The address dialled, which the kernel may make another one.
    pub to: IpAddr,
    /// The port dialled.
    pub port: u16,
    /// Outbound: the address the socket is bound to. Inbound: where it comes from.
    pub from: Option<IpAddr>,
    /// The ids of who made the socket; none inbound.
    pub owner: Option<(u32, u32)>,
    /// Outbound: the device that the socket is bound to. Inbound: the interface of arrival.
    pub via: Via,
}

impl Probe {
    /// The destination on the wire: IPv4's zero address is the socket's own, if it has one, else
    /// it is loopback.
    pub fn effective_dst(&self) -> IpAddr {
        let own = self.from.filter(|_| self.direction == Direction::Outbound);
        match self.to.to_canonical() {
            IpAddr::V4(v4) if v4.is_unspecified() => own.unwrap_or(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            addr @ (IpAddr::V4(_) | IpAddr::V6(_)) => addr,
        }
    }

    /// Who made the socket.
    pub fn owner(&self) -> Option<Owner> {
        self.owner.map(|(uid, gid)| Owner { uid, gid })
    }

    /// The first packet, in the pod.
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
                Direction::Outbound if self.via == Via::Unnamed => site.way(destination),
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
