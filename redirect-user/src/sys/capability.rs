//! The capabilities that this process has, by name.

use anyhow::{Context as _, Result, bail};
use rustix::thread::{CapabilitySet, capabilities};

/// A capability's name, the capability, and the purpose that needs it.
pub type Need = (&'static str, CapabilitySet, &'static str);

/// The capabilities that reading the state needs.
pub const TO_READ: [Need; 1] = [("CAP_BPF", CapabilitySet::BPF, "read the maps")];

/// The capabilities that loading and attaching need.
pub const NEEDED: [Need; 3] = [
    ("CAP_BPF", CapabilitySet::BPF, "load programs and make maps"),
    (
        "CAP_NET_ADMIN",
        CapabilitySet::NET_ADMIN,
        "attach network programs to cgroups",
    ),
    (
        "CAP_PERFMON",
        CapabilitySet::PERFMON,
        "read a socket's owner from kernel memory",
    ),
];

/// `CAP_SYS_ADMIN` with its own purposes. It also includes each capability of [`NEEDED`].
pub const ADMIN: (&str, CapabilitySet, &str) = (
    "CAP_SYS_ADMIN",
    CapabilitySet::SYS_ADMIN,
    "attach in another network namespace, mount bpffs",
);

/// Whether this process has a capability, or `CAP_SYS_ADMIN`, which includes those of [`NEEDED`].
pub fn has(capability: CapabilitySet) -> Result<bool> {
    let effective = capabilities(None)
        .context("read this process's capabilities")?
        .effective;
    Ok(effective.intersects(capability | CapabilitySet::SYS_ADMIN))
}

/// Whether this process is in the initial user namespace. Capabilities for BPF have an effect only
/// there.
pub fn in_first_user_namespace() -> bool {
    // The map is one line that maps every id to itself (user_namespaces(7)).
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The names and purposes of the capabilities of [`NEEDED`] that this process lacks.
/// `CAP_SYS_ADMIN` includes all of them.
pub fn missing() -> Result<Vec<(&'static str, &'static str)>> {
    missing_of(&NEEDED)
}

/// Fails with an error that names every one of these capabilities that this process lacks.
pub fn require(needs: &[Need]) -> Result<()> {
    let missing = missing_of(needs)?;
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<_> = missing
        .into_iter()
        .map(|(name, purpose)| format!("{name} (to {purpose})"))
        .collect();
    bail!(
        "use BPF: this process lacks {}: run it as root",
        list.join(", ")
    );
}

fn missing_of(needs: &[Need]) -> Result<Vec<(&'static str, &'static str)>> {
    let effective = capabilities(None)
        .context("read this process's capabilities")?
        .effective;
    if effective.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(Vec::new());
    }
    Ok(needs
        .iter()
        .filter(|(_, capability, _)| !effective.contains(*capability))
        .map(|(name, _, purpose)| (*name, *purpose))
        .collect())
}
