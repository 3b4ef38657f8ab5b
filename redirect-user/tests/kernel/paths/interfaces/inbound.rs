//! Connections into an excluded interface.

use anyhow::ensure;
use redirect_common::chain::RuleId;
use redirect_user::config::{Inbound, InboundMode, InboundPorts, RedirectConfig};

use super::{
    super::walk::to,
    two_links::{NET1, TwoLinks, config},
};
use crate::{Tested, differential::install, harness::moved};

pub(in crate::paths) fn connections_into_an_excluded_interface_are_left_alone() -> Tested {
    let links = TwoLinks::new("exclude-in", &["net1"])?;
    for mode in [InboundMode::Redirect, InboundMode::Tproxy] {
        links.update(&RedirectConfig {
            inbound: Inbound {
                mode,
                include_ports: InboundPorts::Any,
                exclude_ports: Vec::new(),
            },
            ..config(&["net1"])
        })?;
        // The iptables pod redirects in both modes, because real TPROXY needs a special proxy; the connections that are
        // left alone are the same.
        let redirect = RedirectConfig {
            inbound: Inbound {
                include_ports: InboundPorts::Any,
                ..Inbound::default()
            },
            ..config(&["net1"])
        };
        install(&links.backends.iptables.pod, &redirect)?;
        let own = ["10.77.0.2", "fd00:77::2"];
        for (addresses, servers, rule) in [
            (
                NET1,
                ["app4:8080", "app6:8080"],
                RuleId::InInterfaceExcluded,
            ),
            (own, ["in4:15006", "in6:15006"], RuleId::InAnyIncluded),
        ] {
            for (addr, server) in addresses.into_iter().zip(servers) {
                let before = links.backends.ebpf.hits()?;
                let dial = to(addr, 8080);
                let theirs = links.backends.iptables.world.dial(&dial)?;
                let ebpf = links.backends.ebpf.scene.world.dial(&dial)?;
                ensure!(
                    theirs.server() == Some(server) && ebpf.server() == Some(server),
                    "{addr}\n  iptables: {theirs:?}\n  ebpf:     {ebpf:?}"
                );
                let counted = moved(&before, &links.backends.ebpf.hits()?);
                ensure!(counted.keys().eq([&rule.name()]), "{addr}: {counted:?}");
            }
        }
    }
    Ok(())
}
