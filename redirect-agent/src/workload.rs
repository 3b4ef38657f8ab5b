//! A workload: what is to be redirected, and how.

use std::{fmt, sync::Arc};

use redirect_user::{config::RedirectConfig, sys::netns::NetnsRef};

use crate::cgroup_ref::CgroupRef;

/// The name of a workload that never changes: its source, and what the source calls it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkloadId {
    /// [`Source::name`](crate::source::Source::name).
    pub source: &'static str,
    /// Unique within the source: a file's name.
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
    /// Which one it is.
    pub id: WorkloadId,
    /// What people call it; the label of its metrics.
    pub name: String,
    /// Where it runs; `None` if the source cannot tell.
    pub cgroup: Option<CgroupRef>,
    /// Its network namespace, if not that of its processes.
    pub netns: Option<NetnsRef>,
    /// How it is redirected, or what is wrong with that: where, what, and what to do about it.
    pub policy: Result<Policy, String>,
}

/// How a workload is redirected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// In the form of [`redirect_user::policy::canonical`]. It is large, and wanted in many places.
    pub config: Arc<RedirectConfig>,
    /// What was accepted without (full) effect, one sentence each.
    pub warnings: Vec<String>,
    /// What holds instead until its proxy listens for the first time, in the same form; `None` if that makes no
    /// difference.
    pub until_proxy: Option<Arc<RedirectConfig>>,
}
