//! Which capabilities this process has, by name.

use anyhow::{Context as _, Result};
use rustix::thread::{CapabilitySet, capabilities};

/// What loading and attaching needs, and why.
pub const NEEDED: [(&str, CapabilitySet, &str); 3] = [
    ("CAP_BPF", CapabilitySet::BPF, "load programs and make maps"),
    ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN, "attach network programs to cgroups"),
    ("CAP_PERFMON", CapabilitySet::PERFMON, "read a socket's owner from kernel memory"),
];

/// The names of [`NEEDED`] that this process lacks. `CAP_SYS_ADMIN` stands for all of them.
pub fn missing() -> Result<Vec<(&'static str, &'static str)>> {
    let effective = capabilities(None).context("read this process's capabilities")?.effective;
    if effective.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(Vec::new());
    }
    Ok(NEEDED
        .into_iter()
        .filter(|(_, capability, _)| !effective.contains(*capability))
        .map(|(name, _, purpose)| (name, purpose))
        .collect())
}
