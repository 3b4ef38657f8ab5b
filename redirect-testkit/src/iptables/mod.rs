// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real iptables in a pod's namespace: the oracle that the eBPF programs are compared with.
//!
//! Never touches a namespace but the pod's.

mod istio;

use anyhow::{Context as _, Result, bail};

pub use self::istio::{Include, IstioRules, OwnerGroups};
use crate::{command, pod::Pod};

/// Which of the kernel's two packet filters takes the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// `iptables-legacy`.
    Legacy,
    /// `iptables-nft`.
    Nft,
}

/// Which IP version the rules are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `iptables`.
    V4,
    /// `ip6tables`.
    V6,
}

impl Backend {
    /// The programs that tests of this backend need; for [`crate::missing`].
    pub const fn programs(self) -> [&'static str; 4] {
        match self {
            Self::Legacy => [
                "iptables-legacy-restore",
                "ip6tables-legacy-restore",
                "iptables-legacy-save",
                "ip6tables-legacy-save",
            ],
            Self::Nft => [
                "iptables-nft-restore",
                "ip6tables-nft-restore",
                "iptables-nft-save",
                "ip6tables-nft-save",
            ],
        }
    }

    const fn restore(self, family: Family) -> &'static str {
        let [v4, v6, _, _] = self.programs();
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    const fn save(self, family: Family) -> &'static str {
        let [_, _, v4, v6] = self.programs();
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }
}

/// Replaces the tables named in `rules` (the format of `iptables-save`) in the pod's namespace.
pub fn apply(pod: &Pod, backend: Backend, family: Family, rules: &str) -> Result<()> {
    let program = backend.restore(family);
    // The lock of legacy iptables is shared by all namespaces, hence -w.
    run(pod, &[program, "-w", "10"], rules)
        .map(drop)
        .with_context(|| format!("applying these rules:\n{rules}"))
}

/// Has `rules` parsed in the pod's namespace, and changes nothing.
pub fn check(pod: &Pod, backend: Backend, family: Family, rules: &str) -> Result<()> {
    let program = backend.restore(family);
    run(pod, &[program, "-w", "10", "--noflush", "--test"], rules)
        .map(drop)
        .with_context(|| format!("checking these rules:\n{rules}"))
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

/// The NAT table as it stands, with packet counters.
pub fn listing(pod: &Pod, backend: Backend, family: Family) -> Result<String> {
    let program = backend.save(family);
    run(pod, &[program, "-c", "-t", "nat"], "")
}

fn run(pod: &Pod, argv: &[&str], input: &str) -> Result<String> {
    let argv = pod.as_root(argv);
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    match words.as_slice() {
        [program, arguments @ ..] => command::output(program, arguments, input),
        [] => bail!("no program to run"),
    }
}
