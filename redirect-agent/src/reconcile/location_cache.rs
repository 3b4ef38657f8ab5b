//! What was seen of workloads: what is still so need not be looked for again.
//!
//! To find a workload takes its cgroup's processes, their network namespaces, and a thread in each of
//! these. To see that it stands where it stood takes two questions: is its cgroup's folder the same, and
//! is what its namespace was found by still in that namespace. Those are asked in every pass; everything
//! is looked for anew now and then, because a process can leave its cgroup.

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

/// How long it is enough to see that it stands where it stood.
pub(super) const FULL_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// The network namespaces that cgroups are attached in, by cookie.
pub(super) type AttachedNetns = BTreeMap<CgroupId, u64>;

/// The workloads that were found.
#[derive(Debug, Default)]
pub(super) struct LocationCache(BTreeMap<WorkloadId, CachedLocation>);

/// Where a workload was found.
#[derive(Debug)]
pub(super) struct CachedLocation {
    workload: Workload,
    target: Target,
    anchor: NetnsAnchor,
    since: Instant,
}

/// A file that stands for a network namespace, and that namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NetnsAnchor {
    path: PathBuf,
    identity: FileIdentity,
    cookie: u64,
}

/// What is the same as long as a file stands for the same namespace. The numbers of namespaces are
/// used again. A file that one is mounted on has its time; a process's has none, but a process with the
/// same number does not get a namespace with the same number within seconds.
type FileIdentity = (NetnsId, Option<(i64, i64)>);

impl NetnsAnchor {
    /// A file that stands for the namespace with this cookie; none if it has gone.
    pub(super) fn new(path: PathBuf, cookie: u64) -> Option<Self> {
        let is_link = fs::symlink_metadata(&path).ok()?.is_symlink();
        let identity = file_identity(&path, is_link)?;
        Some(Self {
            path,
            identity,
            cookie,
        })
    }

    /// The cookie of the namespace that a file stands for, if it is this file, and that of then.
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
    /// Where a workload stands, if it is the same one, was found not long ago, is attached in that
    /// namespace, and stands there still. Whose proxy did not listen is looked at again.
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

    /// What its namespace was found by the last time.
    pub(super) fn anchor(&self, id: &WorkloadId) -> Option<&NetnsAnchor> {
        self.0.get(id).map(|location_cache| &location_cache.anchor)
    }

    /// Notes where a workload stands, and what its namespace was found by.
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

    /// Forgets all workloads but these.
    pub(super) fn retain(&mut self, is_there: impl Fn(&WorkloadId) -> bool) {
        self.0.retain(|id, _| is_there(id));
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|directory| directory.ino())
}
