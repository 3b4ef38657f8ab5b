//! Hints about properties of the machine that are no reason to refuse it.

use std::io;

use super::cause::read;
use crate::sys::netfilter::has_chain;

/// All hints that apply to this machine.
pub fn hints() -> Vec<String> {
    let mut hints = Vec::new();
    match has_chain("ISTIO_OUTPUT") {
        Ok(true) => hints.push(
            "this network namespace has Istio's iptables rules (ISTIO_OUTPUT): they still redirect connections that the programs leave alone"
                .to_owned(),
        ),
        Ok(false) => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => hints.push(
            "could not look for Istio's iptables rules, which needs CAP_NET_ADMIN; nothing else needs it if the process has CAP_SYS_ADMIN"
                .to_owned(),
        ),
        Err(error) => hints.push(format!("could not look for Istio's iptables rules: {error}")),
    }
    if has_version_1() {
        hints.push(
            "version 1 cgroups are mounted too: a container that its runtime puts only into those is not redirected; its processes must be moved into a cgroup of version 2 before they create sockets"
                .to_owned(),
        );
    }
    if read("/proc/sys/net/core/bpf_jit_enable").is_some_and(|value| value.trim() == "0") {
        hints.push(
            "BPF programs are interpreted, which is slower: `sysctl net.core.bpf_jit_enable=1`"
                .to_owned(),
        );
    }
    hints
}

/// Whether controllers of version 1 are mounted too.
fn has_version_1() -> bool {
    read("/proc/self/mountinfo").is_some_and(|table| table.contains(" - cgroup "))
}
