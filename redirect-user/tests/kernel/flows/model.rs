//! The model: the decision of the rule table on facts from a compiled policy, without maps or programs.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use redirect_common::{
    chain::{INBOUND, OUTPUT},
    decide::{Decision, decide},
    facts::{self, Facts, InboundFlow, Owner, PolicyView as _, Transport, gather, gather_inbound},
    net::{BeAddr, BePort},
};
use redirect_testkit::{Flow, FlowKind, Side};
use redirect_user::{
    config::RedirectConfig,
    policy::{CompiledView, PodNetwork, compile},
    sys::netns::NetnsSnapshot,
};

use super::site::world_source;

/// A compiled policy in a network namespace.
#[derive(Debug)]
pub(super) struct Model {
    view: CompiledView,
    /// The index of the interface that leads to the world.
    device: u32,
}

impl Model {
    pub(super) fn new(config: &RedirectConfig, netns: &NetnsSnapshot) -> Result<Self> {
        let compiled = compile(
            config,
            &PodNetwork::new(netns, config.dual_stack, &config.exclude_interfaces)?,
        )?;
        let interfaces = &netns.routing.interfaces;
        let device = interfaces.iter().find(|device| device.name == "eth0");
        Ok(Self {
            view: CompiledView::new(&compiled, netns),
            device: device.context("find eth0 of the pod")?.index,
        })
    }

    /// The facts of an inbound connection; none if the policy redirects no inbound connections.
    pub(super) fn arrival(&self, remote: IpAddr, local: SocketAddr) -> Option<Facts> {
        let arrival = InboundFlow {
            remote: remote.into(),
            local: local.ip().into(),
            port: BePort::new(local.port()),
            device: self.device,
        };
        let is_on = self.view.row().flags.inbound();
        is_on.then(|| gather_inbound(&self.view, &arrival))
    }

    /// The facts of a connection, or of a datagram that may be captured; none of other datagrams.
    pub(super) fn facts(&self, flow: &Flow) -> Option<Facts> {
        if flow.client == Side::World {
            return self.arrival(world_source(flow.to), flow.to);
        }
        let port = BePort::new(flow.to.port());
        let transport = match flow.kind {
            FlowKind::Connection => Transport::Tcp,
            FlowKind::ConnectedDatagram | FlowKind::Datagram => Transport::Udp,
        };
        if transport == Transport::Udp && !self.view.row().may_capture_datagram(port) {
            return None;
        }
        let source = flow.from.map_or(BeAddr::ANY, BeAddr::from);
        let flow = facts::Flow {
            transport,
            dst: BeAddr::from(flow.to.ip()).effective_dst(source),
            port,
            source,
            device: 0,
            owner: Some(Owner {
                uid: flow.uid,
                gid: flow.gid,
            }),
        };
        Some(gather(&self.view, &flow))
    }

    /// The decision of the table for this flow.
    pub(super) fn decide(flow: &Flow, facts: Facts) -> Decision {
        match flow.client {
            Side::Pod => decide(&OUTPUT, facts),
            Side::World => decide(&INBOUND, facts),
        }
    }
}
