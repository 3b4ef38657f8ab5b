//! The facts of an inbound connection.

use super::{
    fact::{Fact, Facts},
    outbound::{PolicyView, is_excluded},
};
use crate::{
    abi::PortFlags,
    net::{BeAddr, BePort},
};

/// One TCP connection that arrives at a pod, as a lookup hook sees it.
#[derive(Clone, Copy, Debug)]
pub struct InboundFlow {
    /// The peer's address; IPv4-mapped addresses are IPv4.
    pub remote: BeAddr,
    /// The pod's address that the connection was made to.
    pub local: BeAddr,
    /// The pod's port that the connection was made to.
    pub port: BePort,
    /// The index of the interface that the packet arrives by.
    pub device: u32,
}

/// Gathers every fact about `arrival`. All lookups happen here, before the first rule.
#[inline(always)]
pub fn gather_inbound<V: PolicyView>(view: &V, arrival: &InboundFlow) -> Facts {
    let row = view.row();
    let remote = arrival.remote;
    // The receiving device does not show this: a call to a local address of `eth0` arrives on `lo`,
    // but is reported with `eth0`.
    let looped = remote.is_loopback()
        || remote.same(arrival.local)
        || view.local(remote).is_local()
        || row.flags.has_cidrs(remote.is_v4()) && view.cidr(remote).local();
    let ports = if row.flags.has_in_ports() {
        view.in_port(arrival.port)
    } else {
        PortFlags::NONE
    };
    let by_excluded = row.flags.has_interfaces() && is_excluded(row, arrival.device);
    let tunnel = arrival.port.to_network() == row.tunnel_port.to_network() && !row.flags.tproxy();

    Facts::NONE
        .and_if(row.flags.no_ipv6() && !arrival.local.is_v4(), Fact::Ipv6Off)
        .and_if(tunnel, Fact::PortTunnel)
        .and_if(looped, Fact::Looped)
        .and_if(by_excluded, Fact::InInterfaceExcluded)
        .and_if(ports.excluded(), Fact::InPortExcluded)
        .and_if(row.flags.any_in_port(), Fact::InAnyIncluded)
        .and_if(ports.included(), Fact::InPortIncluded)
}
