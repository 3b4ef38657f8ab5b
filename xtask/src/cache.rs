//! The cache folders, outside `target` so that `cargo clean` does not cost minutes.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};

/// What the tests' other users must be able to enter (uid 1337 runs Envoy from it), so never below a home folder.
pub(crate) const SHARED: &str = "/var/cache/redirect-ebpf";

/// The user's own cache folder. redirect-user's build script looks for `bin/bpf-linker` in the same place.
pub(crate) fn own() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from);
    let base = base.or_else(|| env::home_dir().map(|home| home.join(".cache")));
    let base =
        base.context("find cache folder: neither XDG_CACHE_HOME nor HOME is set; set one of them")?;
    Ok(base.join("redirect-ebpf"))
}
