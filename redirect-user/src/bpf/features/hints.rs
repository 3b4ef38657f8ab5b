//! Properties of the machine that are worth knowing and no reason to refuse.

use std::io;

use super::cause::read;
use crate::sys::netfilter::has_chain;

/// What is worth knowing and no reason to refuse.
pub fn hints() -> Vec<String> {
    let mut hints = Vec::new();
    match has_chain("ISTIO_OUTPUT") {
        Ok(true) => hints.push(
            "this network namespace has Istio's iptables rules (ISTIO_OUTPUT): they go on to redirect what the programs leave alone"
                .to_owned(),
        ),
        Ok(false) => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => hints.push(
            "could not look for Istio's iptables rules, which takes CAP_NET_ADMIN; nothing else needs it where there is CAP_SYS_ADMIN"
                .to_owned(),
        ),
        Err(error) => hints.push(format!("could not look for Istio's iptables rules: {error}")),
    }
    if hybrid() {
        hints.push(
            "version 1 cgroups are mounted too: a container that its runtime keeps only in those is not seen; its processes must be moved into a cgroup of version 2 before they make sockets"
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

/// Whether there are controllers of version 1 besides.
fn hybrid() -> bool {
    read("/proc/self/mountinfo").is_some_and(|table| table.contains(" - cgroup "))
}
