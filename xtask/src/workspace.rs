//! Where this workspace is, who runs us, and the one package that is never compiled for the host.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

/// The package that only redirect-user's build script compiles, for the BPF target. Every host build excludes it.
pub(crate) const EBPF_PACKAGE: &str = "redirect-ebpf";

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// Whether this process acts as root. /proc/self belongs to the effective user, so no system call wrapper is needed.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
