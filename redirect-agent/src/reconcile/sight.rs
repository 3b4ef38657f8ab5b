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
    plan::{Stand, Target, Wanted},
    workload::{Workload, WorkloadId},
};

/// How long it is enough to see that it stands where it stood.
pub(super) const FRESH: Duration = Duration::from_secs(10);

/// The network namespaces that cgroups are attached in, by cookie.
pub(super) type Namespaces = BTreeMap<CgroupId, u64>;

/// The workloads that were found.
#[derive(Debug, Default)]
pub(super) struct Sights(BTreeMap<WorkloadId, Sight>);

/// Where a workload was found.
#[derive(Debug)]
pub(super) struct Sight {
    workload: Workload,
    target: Target,
    witness: Witness,
    since: Instant,
}

/// A file that stands for a network namespace, and that namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Witness {
    path: PathBuf,
    state: State,
    cookie: u64,
}

/// What is the same as long as a file stands for the same namespace. The numbers of namespaces are
/// used again. A file that one is mounted on has its time; a process's has none, but a process with the
/// same number does not get a namespace with the same number within seconds.
type State = (NetnsId, Option<(i64, i64)>);

impl Witness {
    /// A file that stands for the namespace with this cookie; none if it has gone.
    pub(super) fn new(path: PathBuf, cookie: u64) -> Option<Self> {
        let is_link = fs::symlink_metadata(&path).ok()?.is_symlink();
        let state = state(&path, is_link)?;
        Some(Self {
            path,
            state,
            cookie,
        })
    }

    /// The cookie of the namespace that a file stands for, if it is this file, and that of then.
    pub(super) fn cookie_by(&self, path: &Path) -> Option<u64> {
        (self.path == path && self.is_true()).then_some(self.cookie)
    }

    fn is_true(&self) -> bool {
        let (_, time) = self.state;
        state(&self.path, time.is_none()) == Some(self.state)
    }
}

fn state(path: &Path, is_link: bool) -> Option<State> {
    let file = fs::metadata(path).ok()?;
    let time = (!is_link).then(|| (file.ctime(), file.ctime_nsec()));
    Some(((file.dev(), file.ino()), time))
}

impl Sights {
    /// Where a workload stands, if it is the same one, was found not long ago, is attached in that
    /// namespace, and stands there still. Whose proxy did not listen is looked at again.
    pub(super) fn still(&self, workload: &Workload, attached: &Namespaces) -> Option<Wanted> {
        let sight = self.0.get(&workload.id)?;
        let is_same = sight.target.until_proxy.is_none()
            && sight.since.elapsed() < FRESH
            && attached.get(&sight.target.cgroup) == Some(&sight.witness.cookie)
            && sight.workload == *workload
            && inode(&sight.target.path) == Some(sight.target.cgroup)
            && sight.witness.is_true();
        is_same.then(|| Wanted {
            id: workload.id.clone(),
            name: workload.name.clone(),
            stand: Stand::Ready(Box::new(sight.target.clone())),
        })
    }

    /// What its namespace was found by the last time.
    pub(super) fn witness(&self, id: &WorkloadId) -> Option<&Witness> {
        self.0.get(id).map(|sight| &sight.witness)
    }

    /// Notes where a workload stands, and what its namespace was found by.
    pub(super) fn note(&mut self, workload: &Workload, stand: &Stand, witness: Option<Witness>) {
        match (stand, witness) {
            (Stand::Ready(target), Some(witness)) => {
                let sight = Sight {
                    workload: workload.clone(),
                    target: (**target).clone(),
                    witness,
                    since: Instant::now(),
                };
                self.0.insert(workload.id.clone(), sight);
            }
            _ => drop(self.0.remove(&workload.id)),
        }
    }

    /// Forgets all workloads but these.
    pub(super) fn keep(&mut self, is_there: impl Fn(&WorkloadId) -> bool) {
        self.0.retain(|id, _| is_there(id));
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|folder| folder.ino())
}
