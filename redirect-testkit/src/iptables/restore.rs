// SPDX-License-Identifier: MIT OR Apache-2.0
//! Functions that apply, check, clear and list rules in a pod's namespace. They touch no other namespace.

use anyhow::{Context as _, Result, bail};

use super::{
    backend::{Backend, Family},
    istio::IstioRules,
};
use crate::{command, pod::Pod};

/// Replaces the tables named in `rules` (the format of `iptables-save`) in the pod's namespace.
pub fn apply(pod: &Pod, backend: Backend, family: Family, rules: &str) -> Result<()> {
    let program = backend.restore(family);
    // The lock of legacy iptables is shared by all namespaces, hence -w.
    run(pod, &[program, "-w", "10"], rules)
        .map(drop)
        .with_context(|| format!("apply these rules:\n{rules}"))
}

/// Parses `rules` in the pod's namespace, and changes nothing.
pub fn check(pod: &Pod, backend: Backend, family: Family, rules: &str) -> Result<()> {
    let program = backend.restore(family);
    run(pod, &[program, "-w", "10", "--noflush", "--test"], rules)
        .map(drop)
        .with_context(|| format!("check these rules:\n{rules}"))
}

/// Applies Istio's rules for both families.
pub fn apply_istio(pod: &Pod, backend: Backend, rules: &IstioRules) -> Result<()> {
    apply(pod, backend, Family::V4, &rules.text(Family::V4))?;
    apply(pod, backend, Family::V6, &rules.text(Family::V6))
}

/// Removes all NAT rules of both families.
pub fn clear(pod: &Pod, backend: Backend) -> Result<()> {
    let empty = "*nat\nCOMMIT\n";
    apply(pod, backend, Family::V4, empty)?;
    apply(pod, backend, Family::V6, empty)
}

/// Lists the NAT table, with packet counters.
pub fn listing(pod: &Pod, backend: Backend, family: Family) -> Result<String> {
    let program = backend.save(family);
    run(pod, &[program, "-c", "-t", "nat"], "")
}

fn run(pod: &Pod, argv: &[&str], input: &str) -> Result<String> {
    let argv = pod.as_root(argv);
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    match words.as_slice() {
        [program, arguments @ ..] => command::output(program, arguments, input),
        [] => bail!("run a program: the command line is empty"),
    }
}
