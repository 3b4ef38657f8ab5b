//! Queries by UDP and TCP, compared with real iptables.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use anyhow::{Result, ensure};
use redirect_testkit::{
    Dial, UdpScript,
    UdpStep::{Connect, Receive, Send, SendTo},
};

use super::{
    accepted::ACCEPTED,
    matrix::{configs, dials, identities, scripts},
    view::{BothViews, StepView, views},
};
use crate::{
    Tested,
    differential::Backends,
    harness::{FAR_V4, FAR_V6, at},
};

/// A short time limit: longer than any answer takes on a machine at rest.
const HASTE: Duration = Duration::from_millis(60);
/// The number of differences that are printed in full.
const SHOWN: usize = 8;

/// Runs a script in both pods with a short limit, and again with a longer one if there is a difference that is not
/// accepted.
fn run(
    backends: &Backends,
    (uid, gid): (u32, u32),
    name: &str,
    script: &UdpScript,
) -> Result<BothViews> {
    let both = |script: &UdpScript| -> Result<_> {
        let iptables = backends.iptables.dialer(uid, gid)?.udp_script(script)?;
        let ebpf = backends.ebpf.scene.dialer(uid, gid)?.udp_script(script)?;
        Ok((views(script, &iptables), views(script, &ebpf)))
    };
    let hasty = both(&script.clone().timeout(HASTE))?;
    if hasty.0 == hasty.1 || accepted(name, &hasty.0, &hasty.1).is_some() {
        return Ok(hasty);
    }
    both(&script.clone().timeout(Duration::from_millis(500)))
}

/// The index of the accepted difference, if the views differ in one.
fn accepted(script: &str, iptables: &[StepView], ebpf: &[StepView]) -> Option<usize> {
    ACCEPTED
        .iter()
        .position(|accepted| accepted.covers(script, iptables, ebpf))
}

pub(super) fn queries_look_as_behind_real_iptables() -> Tested {
    let backends = Backends::new("dns")?;
    let (mut compared, mut differences, mut known) = (0, Vec::new(), BTreeSet::new());
    for (config, settings) in configs() {
        backends.configure(&settings)?;
        for &(uid, gid) in identities(config) {
            for (name, steps) in scripts() {
                let (iptables, ebpf) = run(&backends, (uid, gid), &name, &steps)?;
                compared += 1;
                if iptables == ebpf {
                    continue;
                }
                if let Some(index) = accepted(&name, &iptables, &ebpf) {
                    known.insert(index);
                } else {
                    differences.push(format!(
                        "{config}: {uid}/{gid}, {name}\n  iptables: {iptables:?}\n  ebpf:     {ebpf:?}"
                    ));
                }
            }
            for (name, dial) in dials() {
                let (iptables, ebpf) = backends.dial(uid, gid, &dial)?;
                compared += 1;
                if iptables != ebpf {
                    differences.push(format!(
                        "{config}: {uid}/{gid} to {name}\n  iptables: {iptables:?}\n  ebpf:     {ebpf:?}"
                    ));
                }
            }
        }
    }
    let mut shown = String::new();
    for difference in differences.iter().take(SHOWN) {
        writeln!(shown, "{difference}")?;
    }
    ensure!(
        differences.is_empty(),
        "{} of {compared} differ:\n{shown}",
        differences.len()
    );
    for (index, accepted) in ACCEPTED.iter().enumerate() {
        ensure!(
            known.contains(&index),
            "remove this accepted difference, which no longer occurs: {}",
            accepted.reason
        );
    }
    Ok(())
}

/// Without the programs the comparison must fail, or it proves nothing.
pub(super) fn a_detached_pod_asks_the_resolvers_themselves() -> Tested {
    let backends = Backends::new("dns-blind")?;
    let (_, settings) = configs().swap_remove(0);
    backends.configure(&settings)?;
    backends.ebpf.detach()?;
    let mut captured = 0;
    for (name, steps) in scripts() {
        let (iptables, ebpf) = run(&backends, (1000, 1000), &name, &steps)?;
        let by_proxy = |seen: &StepView| {
            let (server, _) = seen.server.as_ref()?;
            (server.starts_with("dns") && seen.from.is_some_and(|from| from.port() == 53))
                .then_some(())
        };
        if iptables.iter().any(|seen| by_proxy(seen).is_some()) {
            captured += 1;
            ensure!(iptables != ebpf, "{name}: {ebpf:?}");
        }
    }
    ensure!(captured > 40, "only {captured} queries are captured");
    Ok(())
}

/// Behind iptables the error does not even reach a connected socket.
pub(super) fn a_resolver_that_is_down_refuses() -> Tested {
    let backends = Backends::new("dns-down")?;
    let (_, settings) = configs().swap_remove(0);
    backends.configure(&settings)?;
    for scene in [&backends.iptables, &backends.ebpf.scene] {
        for server in [
            "dns4:15053",
            "dns6:15053",
            "dns udp 127.0.0.1:15053",
            "dns udp [::1]:15053",
        ] {
            scene.proxy.stop_server(server)?;
        }
    }
    let errors = |seen: &[StepView]| -> Vec<String> {
        seen.iter().filter_map(|step| step.error.clone()).collect()
    };
    for ip in [FAR_V4, FAR_V6] {
        let to = at(ip, 53);
        let connected = UdpScript::new([Connect(to), Send, Receive]);
        let (iptables, ebpf) = run(&backends, (1000, 1000), "connected", &connected)?;
        assert_eq!(errors(&iptables), ["EAGAIN"]);
        assert_eq!(errors(&ebpf), ["ECONNREFUSED"]);
        let unconnected = UdpScript::new([SendTo(to), Receive]);
        let (iptables, ebpf) = run(&backends, (1000, 1000), "unconnected", &unconnected)?;
        assert_eq!(errors(&iptables), ["EAGAIN"]);
        assert_eq!(iptables, ebpf);
        let (iptables, ebpf) = backends.dial(1000, 1000, &Dial::to(to))?;
        assert_eq!(iptables.outcome, "ECONNREFUSED");
        assert_eq!(iptables, ebpf);
    }
    Ok(())
}
