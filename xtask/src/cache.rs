//! The cache folders. They are outside `target`, so that `cargo clean` does not cost minutes.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The cache folder for all users. Uid 1337 runs Envoy from it, so it must not be below a home folder.
pub(crate) const SHARED: &str = "/var/cache/redirect-ebpf";

/// The user's own cache folder. redirect-user's build script looks there for `bin/bpf-linker`.
pub(crate) fn own() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from);
    let base = base.or_else(|| env::home_dir().map(|home| home.join(".cache")));
    let base =
        base.context("find cache folder: neither XDG_CACHE_HOME nor HOME is set: set one of them")?;
    Ok(base.join("redirect-ebpf"))
}

/// Makes the shared folder, and takes the lock of one installation there. Others wait until the lock is dropped.
pub(crate) fn lock(name: &str) -> Result<fs::File> {
    fs::create_dir_all(SHARED).with_context(|| format!("create {SHARED}"))?;
    // The mode must not depend on the umask of the user who makes the folder.
    fs::set_permissions(SHARED, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("open {SHARED} to all"))?;
    let path = Path::new(SHARED).join(format!("{name}.lock"));
    let lock = fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    lock.lock()
        .with_context(|| format!("lock {}", path.display()))?;
    Ok(lock)
}
