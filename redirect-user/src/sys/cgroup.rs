//! Cgroups of version 2: their mounts, the check of a path, and the path of an id.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::{fs::statfs, io::Errno};
use thiserror::Error;

/// `CGROUP2_SUPER_MAGIC` (include/uapi/linux/magic.h).
const CGROUP2_SUPER_MAGIC: i128 = 0x6367_7270;

/// The remedy if no cgroup2 is mounted.
const NO_MOUNT: &str = "no cgroup2 is mounted here: `ip netns exec` hides what is below /sys, so enter the namespace with `nsenter --net=/run/netns/NAME`; where there is none at all, `mount -t cgroup2 none FOLDER`";

/// The kernel's id of a cgroup: the inode number of its folder.
pub type CgroupId = u64;

/// The reason why a path is not a cgroup that programs can be attached to.
#[derive(Debug, Error)]
pub enum OpenError {
    /// There is no such folder, or it was removed.
    #[error("open cgroup \"{}\": there is no such folder: {}", .0.display(), where_to_look())]
    Missing(PathBuf),
    /// The path belongs to another file system.
    #[error("open cgroup \"{}\": it is not a cgroup of version 2: {}", .0.display(), where_to_look())]
    NotVersion2(PathBuf),
    /// The path is one of a cgroup's files.
    #[error("open cgroup \"{}\": it is a file: give the folder that it is in", .0.display())]
    File(PathBuf),
    /// The path is the root cgroup, which contains the whole machine.
    #[error(
        "open cgroup \"{}\": it is the root cgroup, which holds the whole machine: give the pod's own",
        .0.display()
    )]
    Root(PathBuf),
    /// The path cannot be read, so it is unknown whether it is a cgroup.
    #[error("open cgroup \"{}\"", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
}

impl OpenError {
    fn of(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        if is_gone(&error) {
            Self::Missing(path)
        } else {
            Self::Unreadable(path, error)
        }
    }
}

/// The remedy for a path that is not a cgroup.
fn where_to_look() -> String {
    match mounts().unwrap_or_default().first() {
        Some(mount) => format!("give a folder below \"{}\"", mount.display()),
        None => NO_MOUNT.to_owned(),
    }
}

/// An open cgroup. Its id is not reused while it is open.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    folder: File,
    id: CgroupId,
}

impl Cgroup {
    /// Opens the cgroup at `path`. Refuses paths that are not cgroups of version 2, and the root
    /// cgroup: a policy there would redirect the whole machine.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |error: io::Error| OpenError::of(path, error);
        let real = path.canonicalize().map_err(failed)?;
        let folder = File::open(&real).map_err(failed)?;
        let metadata = folder.metadata().map_err(failed)?;
        if !is_cgroup2(&real) {
            return Err(OpenError::NotVersion2(path.to_owned()));
        }
        if !metadata.is_dir() {
            return Err(OpenError::File(path.to_owned()));
        }
        // Every cgroup but the root of the whole hierarchy has this file.
        if !real.join("cgroup.type").exists() {
            return Err(OpenError::Root(path.to_owned()));
        }
        Ok(Self {
            path: real,
            folder,
            id: metadata.ino(),
        })
    }

    /// Finds a cgroup by its id, among all cgroups; `None` if it is gone.
    pub fn find(id: CgroupId) -> Result<Option<Self>> {
        let found = find(&[id])?.pop().flatten();
        Ok(found.map(|path| Self::open(&path)).transpose()?)
    }

    /// The cgroup's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kernel's id of the cgroup.
    pub const fn id(&self) -> CgroupId {
        self.id
    }

    /// The processes in this cgroup and below it.
    pub fn processes(&self) -> Vec<u32> {
        let mut found = Vec::new();
        visit(&self.path, |folder, _| {
            let listed = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(listed.lines().filter_map(|pid| pid.parse::<u32>().ok()));
            true
        });
        // A process of another pid namespace is listed as 0.
        found.retain(|pid| *pid != 0);
        found
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

/// Whether a path is on a cgroup2 file system.
pub fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| i128::from(stat.f_type) == CGROUP2_SUPER_MAGIC)
}

/// The mount points of cgroup2, as this process sees them.
pub fn mounts() -> Result<Vec<PathBuf>> {
    let table =
        fs::read_to_string("/proc/self/mountinfo").context("read \"/proc/self/mountinfo\"")?;
    // "… 4:root 5:mount-point options - fstype source …"
    Ok(table
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            (right.split(' ').next()? == "cgroup2").then_some(())?;
            left.split(' ').nth(4).map(PathBuf::from)
        })
        // Another file system may be mounted over the mount point.
        .filter(|path| is_cgroup2(path))
        .collect())
}

/// The folder of the cgroup that this process is in.
pub fn own() -> Result<PathBuf> {
    let table = fs::read_to_string("/proc/self/cgroup").context("read \"/proc/self/cgroup\"")?;
    let relative = table
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .context("find this process's cgroup: no version 2 line in \"/proc/self/cgroup\"")?;
    let mount = mounts()?
        .into_iter()
        .next()
        .with_context(|| format!("find this process's cgroup: {NO_MOUNT}"))?;
    Ok(mount.join(relative.trim_start_matches('/')))
}

/// Whether a process is in the cgroup with this id, or in one below it.
pub fn is_below(pid: u32, id: CgroupId) -> Result<bool> {
    let path = format!("/proc/{pid}/cgroup");
    let table = fs::read_to_string(&path)
        .with_context(|| format!("find the cgroup of process {pid}: read \"{path}\""))?;
    let Some(relative) = table.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Ok(false);
    };
    Ok(mounts()?.iter().any(|mount| {
        let folder = mount.join(relative);
        let mut parents = folder
            .ancestors()
            .take_while(|path| path.starts_with(mount));
        parents.any(|path| Cgroup::open(path).is_ok_and(|cgroup| cgroup.id() == id))
    }))
}

/// The folders of the cgroups with these ids, in the order of the ids; `None` for a cgroup that is
/// gone.
pub fn find(ids: &[CgroupId]) -> Result<Vec<Option<PathBuf>>> {
    let mut found = vec![None; ids.len()];
    for mount in mounts()? {
        visit(&mount, |folder, id| {
            for (slot, _) in found
                .iter_mut()
                .zip(ids)
                .filter(|(slot, wanted)| slot.is_none() && **wanted == id)
            {
                *slot = Some(folder.to_owned());
            }
            found.iter().any(Option::is_none)
        });
    }
    Ok(found)
}

/// Whether a process is in a cgroup or below it. `false` if the cgroup is gone.
pub fn is_populated(folder: &Path) -> io::Result<bool> {
    match fs::read_to_string(folder.join("cgroup.events")) {
        Ok(events) => Ok(events.lines().any(|line| line == "populated 1")),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether an error means that a cgroup is gone, rather than that it cannot be read. The kernel
/// returns ENODEV for files that are open while their cgroup is removed.
pub fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

/// Walks a cgroup and all cgroups below it, as long as `go_on` returns true.
fn visit(folder: &Path, mut go_on: impl FnMut(&Path, CgroupId) -> bool) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // A cgroup can vanish at any time, and then it is skipped.
        let Ok(metadata) = fs::metadata(&folder) else {
            continue;
        };
        if !go_on(&folder, metadata.ino()) {
            return;
        }
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        folders.extend(
            entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
}
