//! DNS capture: every way to ask a resolver, behind Istio's rules in real iptables and behind the
//! programs.

mod accepted;
mod matrix;
mod nested;
mod view;

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use anyhow::{Result, ensure};
use redirect_testkit::{
    Dial, UdpScript,
    UdpStep::{Connect, Receive, Send, SendTo},
    cases,
};

use self::{
    accepted::ACCEPTED,
    matrix::{configs, dials, identities, talks},
    view::{Both, Seen, seen},
};
use crate::{
    Cases, Needs, Tested,
    differential::Twins,
    harness::{FAR_V4, FAR_V6, at},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        queries_look_as_behind_real_iptables,
        a_detached_pod_asks_the_resolvers_themselves,
        nested::the_innermost_policy_that_captures_counts,
        a_resolver_that_is_down_refuses,
    ],
};

/// Longer than any answer takes on a machine at rest.
const HASTE: Duration = Duration::from_millis(60);
/// How many differences are printed in full.
const SHOWN: usize = 8;

/// The same steps in both pods; with patience only if haste makes a difference that is new.
fn talk(twins: &Twins, (uid, gid): (u32, u32), name: &str, talk: &UdpScript) -> Result<Both> {
    let both = |talk: &UdpScript| -> Result<_> {
        let iptables = twins.iptables.dialer(uid, gid)?.udp_script(talk)?;
        let ours = twins.ours.scene.dialer(uid, gid)?.udp_script(talk)?;
        Ok((seen(talk, &iptables), seen(talk, &ours)))
    };
    let hasty = both(&talk.clone().timeout(HASTE))?;
    if hasty.0 == hasty.1 || accepted(name, &hasty.0, &hasty.1).is_some() {
        return Ok(hasty);
    }
    both(&talk.clone().timeout(Duration::from_millis(500)))
}

/// Which accepted difference it is.
fn accepted(talk: &str, iptables: &[Seen], ours: &[Seen]) -> Option<usize> {
    ACCEPTED
        .iter()
        .position(|accepted| accepted.covers(talk, iptables, ours))
}

fn queries_look_as_behind_real_iptables() -> Tested {
    let twins = Twins::new("dns")?;
    let (mut compared, mut differences, mut known) = (0, Vec::new(), BTreeSet::new());
    for (config, settings) in configs() {
        twins.configure(&settings)?;
        for &(uid, gid) in identities(config) {
            for (name, steps) in talks() {
                let (iptables, ours) = talk(&twins, (uid, gid), &name, &steps)?;
                compared += 1;
                if iptables == ours {
                    continue;
                }
                if let Some(index) = accepted(&name, &iptables, &ours) {
                    known.insert(index);
                } else {
                    differences.push(format!(
                        "{config}: {uid}/{gid}, {name}\n  iptables: {iptables:?}\n  ours:     {ours:?}"
                    ));
                }
            }
            for (name, dial) in dials() {
                let (iptables, ours) = twins.dial(uid, gid, &dial)?;
                compared += 1;
                if iptables != ours {
                    differences.push(format!(
                        "{config}: {uid}/{gid} to {name}\n  iptables: {iptables:?}\n  ours:     {ours:?}"
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
            "no longer differs, so accept it no longer: {}",
            accepted.reason
        );
    }
    Ok(())
}

/// The comparison proves nothing if it holds without the programs as well.
fn a_detached_pod_asks_the_resolvers_themselves() -> Tested {
    let twins = Twins::new("dns-blind")?;
    let (_, settings) = configs().swap_remove(0);
    twins.configure(&settings)?;
    twins.ours.detach()?;
    let mut captured = 0;
    for (name, steps) in talks() {
        let (iptables, ours) = talk(&twins, (1000, 1000), &name, &steps)?;
        let by_proxy = |seen: &Seen| {
            let (server, _) = seen.server.as_ref()?;
            (server.starts_with("dns") && seen.from.is_some_and(|from| from.port() == 53))
                .then_some(())
        };
        if iptables.iter().any(|seen| by_proxy(seen).is_some()) {
            captured += 1;
            ensure!(iptables != ours, "{name}: {ours:?}");
        }
    }
    ensure!(captured > 40, "only {captured} queries are captured");
    Ok(())
}

/// Behind iptables the error does not reach a connected socket either.
fn a_resolver_that_is_down_refuses() -> Tested {
    let twins = Twins::new("dns-down")?;
    let (_, settings) = configs().swap_remove(0);
    twins.configure(&settings)?;
    for scene in [&twins.iptables, &twins.ours.scene] {
        for server in [
            "dns4:15053",
            "dns6:15053",
            "dns udp 127.0.0.1:15053",
            "dns udp [::1]:15053",
        ] {
            scene.proxy.stop_server(server)?;
        }
    }
    let errors = |seen: &[Seen]| -> Vec<String> {
        seen.iter().filter_map(|step| step.error.clone()).collect()
    };
    for ip in [FAR_V4, FAR_V6] {
        let to = at(ip, 53);
        let connected = UdpScript::new([Connect(to), Send, Receive]);
        let (iptables, ours) = talk(&twins, (1000, 1000), "connected", &connected)?;
        assert_eq!(errors(&iptables), ["EAGAIN"]);
        assert_eq!(errors(&ours), ["ECONNREFUSED"]);
        let unconnected = UdpScript::new([SendTo(to), Receive]);
        let (iptables, ours) = talk(&twins, (1000, 1000), "unconnected", &unconnected)?;
        assert_eq!(errors(&iptables), ["EAGAIN"]);
        assert_eq!(iptables, ours);
        let (iptables, ours) = twins.dial(1000, 1000, &Dial::to(to))?;
        assert_eq!(iptables.outcome, "ECONNREFUSED");
        assert_eq!(iptables, ours);
    }
    Ok(())
}
