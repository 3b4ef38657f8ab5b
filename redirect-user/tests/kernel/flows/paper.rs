//! The decision on paper: facts from a compiled policy, with neither maps nor programs.

use anyhow::Result;
use redirect_common::{
    facts::{self, Facts, Owner, Transport, gather},
    net::{BeAddr, BePort},
};
use redirect_testkit::Flow;
use redirect_user::{
    config::RedirectConfig,
    policy::{CompiledView, Place, compile},
    sys::netns::Netns,
};

/// A policy in a namespace.
#[derive(Debug)]
pub(super) struct Paper(CompiledView);

impl Paper {
    pub(super) fn new(config: &RedirectConfig, netns: &Netns) -> Result<Self> {
        let compiled = compile(
            config,
            &Place::new(netns, config.dual_stack, &config.exclude_interfaces)?,
        )?;
        Ok(Self(CompiledView::new(&compiled, netns)))
    }

    /// What holds for a connection.
    pub(super) fn facts(&self, flow: &Flow) -> Facts {
        let source = flow.from.map_or(BeAddr::ANY, BeAddr::from);
        let flow = facts::Flow {
            transport: Transport::Tcp,
            dst: BeAddr::from(flow.to.ip()).on_the_wire(source),
            port: BePort::new(flow.to.port()),
            source,
            device: 0,
            owner: Some(Owner {
                uid: flow.uid,
                gid: flow.gid,
            }),
        };
        gather(&self.0, &flow)
    }
}
