//! Two pods, one behind Istio's rules in real iptables and one behind the programs, and the same
//! connections made in both: everything that either end can see must be the same.

mod accepted;
mod matrix;
mod twins;
mod view;

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::ensure;
use redirect_testkit::cases;

use self::matrix::{configs, identities};
pub(crate) use self::{
    accepted::{ACCEPTED, accepted},
    matrix::{IDENTITIES, probes},
    twins::{Twins, install, replace},
    view::View,
};
use crate::{Cases, Needs, Tested};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        everything_looks_as_behind_real_iptables,
        a_detached_pod_looks_different,
    ],
};

/// How many differences are printed in full.
const SHOWN: usize = 5;

fn everything_looks_as_behind_real_iptables() -> Tested {
    let twins = Twins::new("twin")?;
    let (mut compared, mut differences, mut seen) = (0, Vec::new(), BTreeSet::new());
    for (config, settings) in configs() {
        twins.configure(&settings)?;
        for proxy in ["a proxy from before", "a proxy from after"] {
            for (uid, gid) in identities(&settings) {
                for (probe, dial) in probes() {
                    let (iptables, ours) = twins.dial(uid, gid, &dial)?;
                    compared += 1;
                    if iptables == ours {
                        continue;
                    }
                    if let Some(known) = accepted(&dial, &iptables, &ours) {
                        seen.extend(known);
                    } else {
                        differences.push((
                            iptables.distance(&ours),
                            format!("{config}, {proxy}: {uid}/{gid} to {probe}\n  iptables: {iptables:?}\n  ours:     {ours:?}"),
                        ));
                    }
                }
            }
            twins.restart_proxies()?;
        }
    }
    // The smallest difference says most.
    differences.sort();
    let mut shown = String::new();
    for (_, difference) in differences.iter().take(SHOWN) {
        writeln!(shown, "{difference}")?;
    }
    ensure!(
        differences.is_empty(),
        "{} of {compared} differ:\n{shown}",
        differences.len()
    );
    for (index, known) in ACCEPTED.iter().enumerate() {
        ensure!(
            seen.contains(&index),
            "no longer differs, so accept it no longer: {}",
            known.reason
        );
    }
    Ok(())
}

/// The comparison proves nothing if it holds without the programs as well.
fn a_detached_pod_looks_different() -> Tested {
    let twins = Twins::new("blind")?;
    let (config, settings) = configs().swap_remove(0);
    twins.configure(&settings)?;
    twins.ours.detach()?;
    let mut redirected = 0;
    for (uid, gid) in IDENTITIES {
        for (probe, dial) in probes() {
            let (iptables, ours) = twins.dial_in_haste(uid, gid, &dial)?;
            if iptables.is_redirected() {
                redirected += 1;
                ensure!(
                    iptables != ours,
                    "{config}: {uid}/{gid} to {probe}: {ours:?}"
                );
            }
        }
    }
    ensure!(
        redirected > 50,
        "{config}: only {redirected} connections are redirected"
    );
    Ok(())
}
