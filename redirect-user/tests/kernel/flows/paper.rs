//! The decision on paper: facts from a compiled policy, with neither maps nor programs.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use redirect_common::{
    chain::{INBOUND, OUTPUT},
    decide::{Decision, decide},
    facts::{self, Arrival, Facts, Owner, PolicyView as _, Transport, gather, gather_arrival},
    net::{BeAddr, BePort},
};
use redirect_testkit::{Flow, Side, Way};
use redirect_user::{
    config::RedirectConfig,
    policy::{CompiledView, Place, compile},
    sys::netns::Netns,
};

use super::site::visitor;

/// A policy in a namespace.
#[derive(Debug)]
pub(super) struct Paper(CompiledView);

impl Paper {
    pub(super) fn new(config: &RedirectConfig, netns: &Netns) -> Result<Self> {
        let compiled = compile(config, &Place::new(netns, config.dual_stack))?;
        Ok(Self(CompiledView::new(&compiled, netns)))
    }

    /// What holds for a connection that arrives; nothing is asked if none is redirected inbound.
    pub(super) fn arrival(&self, remote: IpAddr, local: SocketAddr) -> Option<Facts> {
        let arrival = Arrival {
            remote: remote.into(),
            local: local.ip().into(),
            port: BePort::new(local.port()),
        };
        let is_on = self.0.row().flags.inbound();
        is_on.then(|| gather_arrival(&self.0, &arrival))
    }

    /// What holds for a connection, or for a datagram that may be captured; nothing is asked about
    /// others.
    pub(super) fn facts(&self, flow: &Flow) -> Option<Facts> {
        if flow.client == Side::World {
            return self.arrival(visitor(flow.to), flow.to);
        }
        let port = BePort::new(flow.to.port());
        let transport = match flow.way {
            Way::Connection => Transport::Tcp,
            Way::ConnectedDatagram | Way::Datagram => Transport::Udp,
        };
        if transport == Transport::Udp && !self.0.row().looks_at(port) {
            return None;
        }
        let source = flow.from.map_or(BeAddr::ANY, BeAddr::from);
        let flow = facts::Flow {
            transport,
            dst: BeAddr::from(flow.to.ip()).on_the_wire(source),
            port,
            source,
            device: 0,
            owner: Some(Owner {
                uid: flow.uid,
                gid: flow.gid,
            }),
        };
        Some(gather(&self.0, &flow))
    }

    /// The decision, by the table for such a flow.
    pub(super) fn decide(flow: &Flow, facts: Facts) -> Decision {
        match flow.client {
            Side::Pod => decide(&OUTPUT, facts),
            Side::World => decide(&INBOUND, facts),
        }
    }
}
