//! The choice of pods that are followed.

use crate::sys::{cgroup::Cgroup, netns::NetnsRef};

/// The pods that are followed.
#[derive(Debug)]
pub enum Scope {
    /// All attached pods, including pods that are attached later.
    All,
    /// The pod of one cgroup, until it is detached.
    One {
        /// The pod's cgroup.
        cgroup: Cgroup,
        /// The pod's network namespace, if it is not that of the pod's processes.
        netns: Option<NetnsRef>,
    },
}
