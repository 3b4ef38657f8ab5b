//! Two pods, one per backend, each with a second link to the world.

use anyhow::{Result, ensure};
use redirect_common::chain::RuleId;
use redirect_testkit::{Identity, Worker};
use redirect_user::config::{Include, Interface, PortRange, RedirectConfig};

use super::super::walk::{Ids, to, walk};
use crate::{
    Tested,
    differential::{Backends, View, install},
    harness::{Scene, moved, netns},
};

pub(super) const EXCLUDED: &str = RuleId::InterfaceExcluded.name();
pub(super) const INCLUDED: &str = RuleId::AnyIncluded.name();

/// Addresses behind `net1`; in a longer prefix of them, routed by `eth0`; and in a still longer one, by `net1` again.
pub(super) const BEHIND: [&str; 2] = ["198.18.1.1", "2001:db8:78::1"];
pub(super) const INSIDE: [&str; 2] = ["198.18.2.1", "2001:db8:78:2::1"];
pub(super) const INNERMOST: [&str; 2] = ["198.18.2.2", "2001:db8:78:2::2"];
pub(super) const NET1: [&str; 2] = ["10.78.0.2", "fd00:78::2"];

pub(super) fn ip(scene: &Scene, arguments: &str) -> Tested {
    let root = scene.pod.worker(&Identity::root())?;
    run(&root, arguments)
}

fn run(worker: &Worker, arguments: &str) -> Tested {
    let argv: Vec<&str> = ["ip"].into_iter().chain(arguments.split(' ')).collect();
    let done = worker.run(&argv)?;
    ensure!(done.is_success(), "ip {arguments}: {done:?}");
    Ok(())
}

/// Adds a second link to the world.
fn link(scene: &Scene) -> Tested {
    let world = scene.pod.world().namespace();
    ip(
        scene,
        &format!("link add net1 type veth peer name net1 netns {world}"),
    )?;
    for line in [
        "addr add 10.78.0.1/24 dev net1",
        "addr add fd00:78::1/64 dev net1 nodad",
        "link set net1 up",
        "route add 198.18.9.9/32 via 10.78.0.2",
    ] {
        run(&scene.world, line)?;
    }
    for addr in [BEHIND, INSIDE, INNERMOST].concat() {
        scene.pod.world().add_address(addr.parse()?)?;
    }
    for line in [
        "addr add 10.78.0.2/24 dev net1",
        "addr add fd00:78::2/64 dev net1 nodad",
        "link set net1 up",
        "route add 198.18.0.0/16 via 10.78.0.1 dev net1",
        "route add 198.18.2.0/24 via 10.77.0.1 dev eth0",
        "route add 198.18.2.2/32 via 10.78.0.1 dev net1",
        "route add 2001:db8:78::/48 via fd00:78::1 dev net1",
        "route add 2001:db8:78:2::/64 via fd00:77::1 dev eth0",
        "route add 2001:db8:78:2::2/128 via fd00:78::1 dev net1",
        // This route is not taken, because its metric is higher.
        "route add 203.0.113.0/24 via 10.78.0.1 dev net1 metric 50",
        "route add 203.0.113.0/24 via 10.77.0.1 dev eth0 metric 10",
    ] {
        ip(scene, line)?;
    }
    Ok(())
}

pub(super) fn config(names: &[&str]) -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        exclude_ports: vec![PortRange::single(5555)],
        exclude_interfaces: names
            .iter()
            .map(|name| Interface((*name).to_owned()))
            .collect(),
        dual_stack: true,
        ..RedirectConfig::default()
    }
}

/// Two pods with two interfaces each, one pod per backend.
pub(super) struct TwoLinks {
    pub(super) backends: Backends,
}

impl TwoLinks {
    pub(super) fn new(name: &str, excluded: &[&str]) -> Result<Self> {
        let links = Self {
            backends: Backends::new(name)?,
        };
        for scene in [&links.backends.iptables, &links.backends.ebpf.scene] {
            link(scene)?;
        }
        links.configure(&config(excluded))?;
        Ok(links)
    }

    pub(super) fn configure(&self, config: &RedirectConfig) -> Tested {
        install(&self.backends.iptables.pod, config)?;
        self.update(config)
    }

    /// Updates the pod behind the programs, which reads the routes anew.
    pub(super) fn update(&self, config: &RedirectConfig) -> Tested {
        let ebpf = &self.backends.ebpf;
        let mut writer = ebpf.owner.writer()?;
        let pod = ebpf.pod(&writer)?;
        Ok(writer.update(&pod, Some(&netns(&ebpf.scene.pod)?), config)?)
    }

    pub(super) fn ip(&self, arguments: &str) -> Tested {
        ip(&self.backends.iptables, arguments)?;
        ip(&self.backends.ebpf.scene, arguments)
    }

    /// Dials both families of a destination: the server and the rule must be as expected, and the same in both pods.
    pub(super) fn expect(
        &self,
        ids: Ids,
        addresses: [&str; 2],
        port: u16,
        (server, rule): (&str, &str),
    ) -> Tested {
        let [v4, v6] = addresses;
        let name = |family| {
            format!(
                "{server}{family}:{}",
                if server == "out" { 15001 } else { port }
            )
        };
        walk(
            &self.backends,
            ids,
            &name(4),
            rule,
            [to(v4, port), to(v4, port).mapped()],
        )?;
        walk(&self.backends, ids, &name(6), rule, [to(v6, port)])
    }

    /// Dials both families of a destination that is redirected although `net1` leads to it. The views may differ in the
    /// client's address.
    pub(super) fn expect_out(&self, addresses: [&str; 2]) -> Tested {
        for (addr, server) in addresses.into_iter().zip(["out4:15001", "out6:15001"]) {
            let before = self.backends.ebpf.hits()?;
            let (iptables, ebpf) = self.backends.dial(1000, 1000, &to(addr, 80))?;
            let seen = |view: &View| (view.outcome.clone(), view.orig_dst);
            ensure!(
                seen(&iptables) == seen(&ebpf) && ebpf.outcome == server,
                "{addr}\n  iptables: {iptables:?}\n  ebpf:     {ebpf:?}"
            );
            let counted = moved(&before, &self.backends.ebpf.hits()?);
            ensure!(counted.keys().eq([&INCLUDED]), "{addr}: {counted:?}");
        }
        Ok(())
    }
}
