//! The cache folders, outside `target` so that `cargo clean` does not cost minutes.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

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

/// Makes the shared folder, and holds it for one that makes this there; until it is dropped, others wait.
pub(crate) fn lock(name: &str) -> Result<fs::File> {
    fs::create_dir_all(SHARED).with_context(|| format!("create {SHARED}"))?;
    // Whatever the umask of whoever came first.
    fs::set_permissions(SHARED, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("open {SHARED} to all"))?;
    let path = Path::new(SHARED).join(format!("{name}.lock"));
    let lock = fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    lock.lock()
        .with_context(|| format!("lock {}", path.display()))?;
    Ok(lock)
}
