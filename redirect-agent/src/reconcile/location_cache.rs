//! A cache of locations: a pass checks that a workload is still where it was found.
//!
//! Finding a workload takes the processes of its cgroup, their network namespaces, and a thread in each of
//! these. Checking a location takes two questions: is the cgroup's directory the same, and does the anchor
//! still stand for the same network namespace? Every pass asks them. Everything is looked up again now and
//! then, because a process can leave its cgroup.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use redirect_user::sys::{cgroup::CgroupId, netns::NetnsId};

use crate::{
    plan::{Resolution, ResolvedWorkload, Target},
    workload::{Workload, WorkloadId},
};

/// Age at which a location is looked up again, and interval between checks of every link.
pub(super) const FULL_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Cookies of the network namespaces that cgroups are attached in.
pub(super) type AttachedNetns = BTreeMap<CgroupId, u64>;

/// The cached locations.
#[derive(Debug, Default)]
pub(super) struct LocationCache(BTreeMap<WorkloadId, CachedLocation>);

/// A cached location.
#[derive(Debug)]
pub(super) struct CachedLocation {
    workload: Workload,
    target: Target,
    anchor: NetnsAnchor,
    since: Instant,
}

/// A file that stands for a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NetnsAnchor {
    path: PathBuf,
    identity: FileIdentity,
    cookie: u64,
}

/// Identity of a file that stands for a namespace: inode, and time of change. The kernel uses numbers of
/// namespaces again. A bind-mounted file has a time of its own. The file of a process has none, but a process
/// with the same number does not get a namespace with the same number within seconds.
type FileIdentity = (NetnsId, Option<(i64, i64)>);

impl NetnsAnchor {
    /// An anchor of the namespace with this cookie; `None` if the file has gone.
    pub(super) fn new(path: PathBuf, cookie: u64) -> Option<Self> {
        let is_link = fs::symlink_metadata(&path).ok()?.is_symlink();
        let identity = file_identity(&path, is_link)?;
        Some(Self {
            path,
            identity,
            cookie,
        })
    }

    /// The cookie of the namespace at this path, if the anchor is at this path and still valid.
    pub(super) fn cookie_of(&self, path: &Path) -> Option<u64> {
        (self.path == path && self.is_valid()).then_some(self.cookie)
    }

    fn is_valid(&self) -> bool {
        let (_, time) = self.identity;
        file_identity(&self.path, time.is_none()) == Some(self.identity)
    }
}

fn file_identity(path: &Path, is_link: bool) -> Option<FileIdentity> {
    let file = fs::metadata(path).ok()?;
    let time = (!is_link).then(|| (file.ctime(), file.ctime_nsec()));
    Some(((file.dev(), file.ino()), time))
}

impl LocationCache {
    /// The cached resolution of a workload, if its description, its attachment, its cgroup and its anchor are
    /// all unchanged. A workload whose proxy did not listen is looked up again.
    pub(super) fn get(
        &self,
        workload: &Workload,
        attached: &AttachedNetns,
    ) -> Option<ResolvedWorkload> {
        let location_cache = self.0.get(&workload.id)?;
        let is_same = location_cache.target.until_proxy.is_none()
            && location_cache.since.elapsed() < FULL_CHECK_INTERVAL
            && attached.get(&location_cache.target.cgroup) == Some(&location_cache.anchor.cookie)
            && location_cache.workload == *workload
            && inode(&location_cache.target.path) == Some(location_cache.target.cgroup)
            && location_cache.anchor.is_valid();
        is_same.then(|| ResolvedWorkload {
            id: workload.id.clone(),
            name: workload.name.clone(),
            resolution: Resolution::Ready(Box::new(location_cache.target.clone())),
        })
    }

    /// The anchor that the namespace of a workload was found by last.
    pub(super) fn anchor(&self, id: &WorkloadId) -> Option<&NetnsAnchor> {
        self.0.get(id).map(|location_cache| &location_cache.anchor)
    }

    /// Records the location of a workload.
    pub(super) fn insert(
        &mut self,
        workload: &Workload,
        resolution: &Resolution,
        anchor: Option<NetnsAnchor>,
    ) {
        match (resolution, anchor) {
            (Resolution::Ready(target), Some(anchor)) => {
                let location_cache = CachedLocation {
                    workload: workload.clone(),
                    target: (**target).clone(),
                    anchor,
                    since: Instant::now(),
                };
                self.0.insert(workload.id.clone(), location_cache);
            }
            _ => drop(self.0.remove(&workload.id)),
        }
    }

    /// Forgets the workloads that do not satisfy `is_there`.
    pub(super) fn retain(&mut self, is_there: impl Fn(&WorkloadId) -> bool) {
        self.0.retain(|id, _| is_there(id));
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|directory| directory.ino())
}
