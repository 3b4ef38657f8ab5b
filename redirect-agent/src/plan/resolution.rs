//! A workload, resolved to a cgroup and a network namespace.

use std::{path::PathBuf, sync::Arc};

use redirect_user::{config::RedirectConfig, sys::cgroup::CgroupId};

use crate::workload::WorkloadId;

/// A workload, and its resolution at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedWorkload {
    /// The workload.
    pub id: WorkloadId,
    /// Name for people.
    pub name: String,
    /// Its resolution.
    pub resolution: Resolution,
}

/// The resolution of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The workload can be attached.
    Ready(Box<Target>),
    /// The workload cannot be attached yet. An existing attachment stays.
    Waiting {
        /// Its cgroup, if that exists already.
        cgroup: Option<CgroupId>,
        /// The condition that it waits for.
        reason: String,
    },
    /// The description cannot be used. An existing attachment stays.
    Refused {
        /// The cgroup whose attachment stays.
        claim: Claim,
        /// The problem.
        reason: String,
    },
}

/// The cgroup that a refused workload claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// This cgroup.
    Cgroup(CgroupId),
    /// No cgroup: the described one does not exist.
    None,
    /// Possibly any cgroup: the description cannot be read.
    Unknown,
}

/// The attachment that a workload should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// Path of the cgroup.
    pub path: PathBuf,
    /// Cookie of its network namespace; `None` if that is unknown, and any attached one is right.
    pub netns: Option<u64>,
    /// Configuration, in canonical form.
    pub config: Arc<RedirectConfig>,
    /// Configuration for a proxy that has not listened yet; `None` if the proxy listens now, or if it is the
    /// same one.
    pub until_proxy: Option<Arc<RedirectConfig>>,
}
