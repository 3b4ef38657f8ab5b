//! The comparison of every connection under every configuration.

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::ensure;

use super::{
    accepted::{ACCEPTED, accepted},
    backends::Backends,
    matrix::{IDENTITIES, configs, identities, probes},
};
use crate::Tested;

/// The number of differences that are printed in full.
const SHOWN: usize = 5;

pub(super) fn everything_looks_as_behind_real_iptables() -> Tested {
    let backends = Backends::new("compare")?;
    let (mut compared, mut differences, mut seen) = (0, Vec::new(), BTreeSet::new());
    for (config, settings) in configs() {
        backends.configure(&settings)?;
        for proxy in ["a proxy from before", "a proxy from after"] {
            for (uid, gid) in identities(&settings) {
                for (probe, dial) in probes() {
                    let (iptables, ebpf) = backends.dial(uid, gid, &dial)?;
                    compared += 1;
                    if iptables == ebpf {
                        continue;
                    }
                    if let Some(known) = accepted(&dial, &iptables, &ebpf) {
                        seen.extend(known);
                    } else {
                        differences.push((
                            iptables.distance(&ebpf),
                            format!("{config}, {proxy}: {uid}/{gid} to {probe}\n  iptables: {iptables:?}\n  ebpf:     {ebpf:?}"),
                        ));
                    }
                }
            }
            backends.restart_proxies()?;
        }
    }
    // The smallest difference explains most.
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
            "remove this accepted difference, which no longer occurs: {}",
            known.reason
        );
    }
    Ok(())
}

/// Without the programs the comparison must fail, or it proves nothing.
pub(super) fn a_detached_pod_looks_different() -> Tested {
    let backends = Backends::new("blind")?;
    let (config, settings) = configs().swap_remove(0);
    backends.configure(&settings)?;
    backends.ebpf.detach()?;
    let mut redirected = 0;
    for (uid, gid) in IDENTITIES {
        for (probe, dial) in probes() {
            let (iptables, ebpf) = backends.dial_in_haste(uid, gid, &dial)?;
            if iptables.is_redirected() {
                redirected += 1;
                ensure!(
                    iptables != ebpf,
                    "{config}: {uid}/{gid} to {probe}: {ebpf:?}"
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
