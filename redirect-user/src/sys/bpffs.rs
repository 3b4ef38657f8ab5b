//! The BPF file system, in which links, programs and maps outlive the process that created them.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    fs::statfs,
    mount::{MountFlags, mount},
    process::geteuid,
};

/// The conventional mount point of the BPF file system.
pub const MOUNT_POINT: &str = "/sys/fs/bpf";

/// `BPF_FS_MAGIC` (include/uapi/linux/magic.h).
const BPF_FS_MAGIC: i128 = 0xcafe_4a11;

/// Whether `path` is on a BPF file system.
pub fn is_bpffs(path: &Path) -> Result<bool> {
    let stat =
        statfs(path).with_context(|| format!("read the file system of \"{}\"", path.display()))?;
    Ok(i128::from(stat.f_type) == BPF_FS_MAGIC)
}

/// Refuses a folder that exists on another file system: its contents are not ours to read or to
/// remove.
pub fn check(folder: &Path) -> Result<()> {
    let exists = folder
        .try_exists()
        .with_context(|| format!("find \"{}\"", folder.display()))?;
    if exists && !is_bpffs(folder)? {
        bail!(not_on(folder));
    }
    Ok(())
}

fn not_on(folder: &Path) -> String {
    format!(
        "\"{}\" is not on a BPF file system: choose a folder below \"{MOUNT_POINT}\", or mount one (`mount -t bpf bpf FOLDER`)",
        folder.display()
    )
}

/// Makes sure that `folder` exists and is on a BPF file system. Mounts one at the conventional
/// mount point if only that is missing.
pub fn ensure(folder: &Path) -> Result<()> {
    if folder.starts_with(MOUNT_POINT) && !is_bpffs(Path::new(MOUNT_POINT))? {
        mount("bpf", MOUNT_POINT, "bpf", MountFlags::empty(), c"mode=0700")
            .with_context(|| format!("mount a BPF file system at \"{MOUNT_POINT}\""))?;
    }
    let existing = folder
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(folder);
    if !is_bpffs(existing)? {
        bail!(not_on(folder));
    }
    let make = || format!("create \"{}\"", folder.display());
    // A process that can open the folder can hold its lock and block all other processes.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(make)?;
    let metadata = fs::metadata(folder).with_context(make)?;
    if metadata.uid() != geteuid().as_raw() {
        bail!(
            "use \"{}\": it belongs to user {}: remove it, or choose another folder with --bpffs",
            folder.display(),
            metadata.uid()
        );
    }
    Ok(())
}
