//! A compiled policy as input of the decision, without maps: the result that it would give when
//! attached.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;
use redirect_common::{
    abi::{CidrFlags, GroupFlags, LocalFlags, PolicyId, PolicyRow, PortFlags, PortKey, Serial},
    facts::PolicyView,
    net::{BeAddr, BePort},
};

use super::{CompiledPolicy, locals};
use crate::sys::netns::NetnsSnapshot;

/// A compiled policy in a network namespace.
#[derive(Clone, Debug)]
pub struct CompiledView {
    row: PolicyRow,
    cidrs: HashMap<IpNet, CidrFlags>,
    /// The prefix lengths that occur in `cidrs`.
    lengths: BTreeSet<u8>,
    ports: HashMap<PortKey, PortFlags>,
    groups: HashSet<u32>,
    locals: HashMap<IpAddr, LocalFlags>,
}

impl CompiledView {
    /// Creates the view of the values that the maps would contain.
    pub fn new(policy: &CompiledPolicy, netns: &NetnsSnapshot) -> Self {
        Self {
            row: policy.row(PolicyId::NONE, Serial::NONE),
            cidrs: policy.cidrs.iter().copied().collect(),
            lengths: policy
                .cidrs
                .iter()
                .map(|(net, _)| net.prefix_len())
                .collect(),
            ports: policy.ports.iter().copied().collect(),
            groups: policy.groups.iter().copied().collect(),
            locals: locals(netns).collect(),
        }
    }

    fn ported(&self, key: PortKey) -> PortFlags {
        self.ports.get(&key).copied().unwrap_or_default()
    }
}

impl PolicyView for CompiledView {
    fn row(&self) -> &PolicyRow {
        &self.row
    }

    fn cidr(&self, addr: BeAddr) -> CidrFlags {
        let addr = IpAddr::from(addr);
        // A length that is too long for the family gives no range.
        let longest = self.lengths.iter().rev().find_map(|length| {
            let net = IpNet::new(addr, *length).ok()?.trunc();
            self.cidrs.get(&net).copied()
        });
        longest.unwrap_or_default()
    }

    fn port(&self, port: BePort) -> PortFlags {
        self.ported(PortKey::outbound_tcp(port))
    }

    fn in_port(&self, port: BePort) -> PortFlags {
        self.ported(PortKey::inbound_tcp(port))
    }

    fn group(&self, gid: u32) -> GroupFlags {
        if self.groups.contains(&gid) {
            GroupFlags::LISTED
        } else {
            GroupFlags::NONE
        }
    }

    fn local(&self, addr: BeAddr) -> LocalFlags {
        let addr = IpAddr::from(addr);
        self.locals.get(&addr).copied().unwrap_or_default()
    }
}
