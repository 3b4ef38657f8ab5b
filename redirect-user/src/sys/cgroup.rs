//! Cgroups of version 2: finding their mounts, checking a path, finding a path by id.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use rustix::{fs::statfs, io::Errno};

/// `CGROUP2_SUPER_MAGIC` (include/uapi/linux/magic.h).
const CGROUP2_SUPER_MAGIC: i128 = 0x6367_7270;

/// What to do where nothing is mounted.
const NO_MOUNT: &str = "no cgroup2 is mounted here: `ip netns exec` hides what is below /sys, so enter the namespace with `nsenter --net=/run/netns/NAME`; where there is none at all, `mount -t cgroup2 none FOLDER`";

/// The kernel's id of a cgroup: the inode number of its folder.
pub type CgroupId = u64;

/// An open cgroup. While it is open its id cannot pass to another.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    folder: File,
    id: CgroupId,
}

impl Cgroup {
    /// Opens the cgroup at `path`. Refuses what is not a cgroup of version 2, and the root: a
    /// policy there would redirect the whole machine.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let path = match path.canonicalize() {
            Err(error) if error.kind() == ErrorKind::NotFound && mounts()?.is_empty() => {
                bail!("open cgroup \"{shown}\": {NO_MOUNT}")
            }
            found => found.with_context(|| format!("open cgroup \"{shown}\""))?,
        };
        let folder = File::open(&path).with_context(|| format!("open cgroup \"{shown}\""))?;
        let metadata = folder
            .metadata()
            .with_context(|| format!("open cgroup \"{shown}\""))?;
        if !is_cgroup2(&path) || !metadata.is_dir() {
            let hint = match mounts()?.first() {
                Some(mount) => format!("give a folder below \"{}\"", mount.display()),
                None => NO_MOUNT.to_owned(),
            };
            bail!("open cgroup \"{shown}\": not a cgroup of version 2: {hint}");
        }
        // Every cgroup but the root of the whole hierarchy has this file.
        if !path.join("cgroup.type").exists() {
            bail!(
                "open cgroup \"{shown}\": it is the root cgroup, which holds the whole machine: give the pod's own"
            );
        }
        Ok(Self {
            path,
            folder,
            id: metadata.ino(),
        })
    }

    /// Finds a cgroup by its id, among all there are; `None` if it is gone.
    pub fn find(id: CgroupId) -> Result<Option<Self>> {
        let found = find(&[id])?.pop().flatten();
        found.map(|path| Self::open(&path)).transpose()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kernel's id.
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

fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| i128::from(stat.f_type) == CGROUP2_SUPER_MAGIC)
}

/// Where cgroup2 is mounted, as this process sees it.
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
        // Another file system may be mounted over it.
        .filter(|path| is_cgroup2(path))
        .collect())
}

/// The cgroup this process is in, as a folder.
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

/// The folders of the cgroups with these ids, in the order asked; `None` for one that is gone.
pub fn find(ids: &[CgroupId]) -> Result<Vec<Option<PathBuf>>> {
    let mut found = vec![None; ids.len()];
    for mount in mounts()? {
        visit(&mount, |folder, id| {
            for (place, _) in found
                .iter_mut()
                .zip(ids)
                .filter(|(place, wanted)| place.is_none() && **wanted == id)
            {
                *place = Some(folder.to_owned());
            }
            found.iter().any(Option::is_none)
        });
    }
    Ok(found)
}

/// Whether a process lives in a cgroup or below it. Nobody does in one that is gone.
pub fn is_populated(folder: &Path) -> io::Result<bool> {
    match fs::read_to_string(folder.join("cgroup.events")) {
        Ok(events) => Ok(events.lines().any(|line| line == "populated 1")),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether an error says that a cgroup is not there, and not only that it cannot be looked at. The kernel says
/// ENODEV of the files of one that went while they were open.
pub fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

/// Walks a cgroup and all below it, as long as `go_on` says so.
fn visit(folder: &Path, mut go_on: impl FnMut(&Path, CgroupId) -> bool) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // A cgroup may vanish at any time; then it is not there.
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
