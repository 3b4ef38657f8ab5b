//! A workload: a cgroup that is to be redirected, and its policy.

use std::{fmt, sync::Arc};

use redirect_user::{config::RedirectConfig, sys::netns::NetnsRef};

use crate::cgroup_ref::CgroupRef;

/// The permanent id of a workload: its source, and a key of that source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkloadId {
    /// [`Source::name`](crate::source::Source::name).
    pub source: &'static str,
    /// Unique within the source, such as a file's name.
    pub key: String,
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source, self.key)
    }
}

/// A workload as its source describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Permanent id.
    pub id: WorkloadId,
    /// Name for people, and label of its metrics.
    pub name: String,
    /// Its cgroup; `None` if the source cannot tell.
    pub cgroup: Option<CgroupRef>,
    /// Its network namespace, if that is not the one of its processes.
    pub netns: Option<NetnsRef>,
    /// Its policy, or the problem of its description: place, cause and remedy.
    pub policy: Result<Policy, String>,
}

/// The policy of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Configuration in the form of [`redirect_user::policy::canonical`]. It is large, and shared by many
    /// places.
    pub config: Arc<RedirectConfig>,
    /// Options that were accepted without (full) effect, one sentence each.
    pub warnings: Vec<String>,
    /// Configuration until its proxy listens for the first time, in the same form; `None` if that is the same
    /// one.
    pub until_proxy: Option<Arc<RedirectConfig>>,
}
