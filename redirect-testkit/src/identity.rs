// SPDX-License-Identifier: MIT OR Apache-2.0
//! The identity of a worker: its cgroup, uid, gid and supplementary groups.

use std::path::PathBuf;

/// The uid and gid of the application container.
pub const APP_ID: u32 = 1000;
/// The uid and gid of Istio's sidecar.
pub const PROXY_ID: u32 = 1337;

/// The cgroup of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerCgroup {
    /// The pod's `app` container.
    App,
    /// The pod's `istio-proxy` container.
    Proxy,
    /// Another cgroup folder, for example one of [`crate::Pod::second_cgroup`].
    Folder(PathBuf),
    /// The cgroup of the test process, outside of any pod.
    Inherited,
}

/// The identity that a worker takes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cgroup.
    pub cgroup: WorkerCgroup,
    /// The real, effective and saved uid.
    pub uid: u32,
    /// The real, effective and saved gid.
    pub gid: u32,
    /// The supplementary groups; none by default.
    pub groups: Vec<u32>,
}

impl Identity {
    /// The application: cgroup `app`, uid and gid 1000.
    pub const fn app() -> Self {
        Self {
            cgroup: WorkerCgroup::App,
            uid: APP_ID,
            gid: APP_ID,
            groups: Vec::new(),
        }
    }

    /// The sidecar: cgroup `istio-proxy`, uid and gid 1337.
    pub const fn proxy() -> Self {
        Self {
            cgroup: WorkerCgroup::Proxy,
            uid: PROXY_ID,
            gid: PROXY_ID,
            groups: Vec::new(),
        }
    }

    /// Root in the test's own cgroup: the identity of servers in the outside world.
    pub const fn root() -> Self {
        Self {
            cgroup: WorkerCgroup::Inherited,
            uid: 0,
            gid: 0,
            groups: Vec::new(),
        }
    }

    /// Sets the cgroup.
    #[must_use]
    pub fn cgroup(mut self, cgroup: WorkerCgroup) -> Self {
        self.cgroup = cgroup;
        self
    }

    /// Sets the uid.
    #[must_use]
    pub const fn uid(mut self, uid: u32) -> Self {
        self.uid = uid;
        self
    }

    /// Sets the gid.
    #[must_use]
    pub const fn gid(mut self, gid: u32) -> Self {
        self.gid = gid;
        self
    }

    /// Sets the supplementary groups.
    #[must_use]
    pub fn groups(mut self, groups: impl Into<Vec<u32>>) -> Self {
        self.groups = groups.into();
        self
    }
}
