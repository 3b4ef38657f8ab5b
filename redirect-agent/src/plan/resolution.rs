//! A workload, and where it stands.

use std::{path::PathBuf, sync::Arc};

use redirect_user::{config::RedirectConfig, sys::cgroup::CgroupId};

use crate::workload::WorkloadId;

/// A workload, and where it stands at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedWorkload {
    /// Which one it is.
    pub id: WorkloadId,
    /// What people call it.
    pub name: String,
    /// Where it stands.
    pub resolution: Resolution,
}

/// Where a workload stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It is there, and it is known what it should have.
    Ready(Box<Target>),
    /// It cannot have anything yet. What it has stays.
    Waiting {
        /// Its cgroup, if that is there already.
        cgroup: Option<CgroupId>,
        /// What it waits for.
        reason: String,
    },
    /// What it should have cannot be used, and why. What it has stays.
    Refused {
        /// Whose policy stays.
        claim: Claim,
        /// What is wrong.
        reason: String,
    },
}

/// Which cgroup a refused workload is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// This one.
    Cgroup(CgroupId),
    /// One that is not there.
    None,
    /// It may be any.
    Unknown,
}

/// What a workload should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// The cgroup's folder.
    pub path: PathBuf,
    /// The cookie of its network namespace; `None` if nothing tells, so that what it has is right.
    pub netns: Option<u64>,
    /// Its configuration, in canonical form.
    pub config: Arc<RedirectConfig>,
    /// What it has instead if its proxy has not listened yet; `None` if it does now, or if that makes no
    /// difference.
    pub until_proxy: Option<Arc<RedirectConfig>>,
}
