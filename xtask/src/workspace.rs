//! The folders and packages of this workspace, and the rights of this process.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

use anyhow::{Context as _, Result};

/// The package that only redirect-user's build script compiles, for the BPF target. Every host build excludes it.
pub(crate) const EBPF_PACKAGE: &str = "redirect-ebpf";

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// Whether the effective user is root. /proc/self belongs to that user, so no wrapper of a system call is needed.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The folders of all packages, sorted. Each is directly below the root, and named like its package.
pub(crate) fn packages() -> Result<Vec<PathBuf>> {
    let root = root();
    let list = || format!("list {}", root.display());
    let mut packages = Vec::new();
    for entry in fs::read_dir(&root).with_context(list)? {
        let folder = entry.with_context(list)?.path();
        if folder.join("Cargo.toml").is_file() {
            packages.push(folder);
        }
    }
    packages.sort();
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_package_is_found() {
        let packages = packages().unwrap();
        assert!(packages.iter().any(|package| package.ends_with("xtask")));
    }
}
