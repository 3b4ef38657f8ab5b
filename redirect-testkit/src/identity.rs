// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who a worker is: the cgroup it lives in, and its user and groups.

use std::path::PathBuf;

/// uid and gid of the application container.
pub const APP_ID: u32 = 1000;
/// uid and gid of Istio's sidecar.
pub const PROXY_ID: u32 = 1337;

/// The cgroup a worker lives in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerCgroup {
    /// The pod's `app` container.
    App,
    /// The pod's `istio-proxy` container.
    Proxy,
    /// Any cgroup folder, such as one made with [`crate::Pod::second_cgroup`].
    Folder(PathBuf),
    /// Wherever the test process is; outside any pod.
    Inherited,
}

/// Cgroup, uid, gid and supplementary groups of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its cgroup.
    pub cgroup: WorkerCgroup,
    /// Real, effective and saved uid.
    pub uid: u32,
    /// Real, effective and saved gid.
    pub gid: u32,
    /// Supplementary groups; none by default.
    pub groups: Vec<u32>,
}

impl Identity {
    /// The application: `app`, uid and gid 1000.
    pub const fn app() -> Self {
        Self {
            cgroup: WorkerCgroup::App,
            uid: APP_ID,
            gid: APP_ID,
            groups: Vec::new(),
        }
    }

    /// The sidecar: `istio-proxy`, uid and gid 1337.
    pub const fn proxy() -> Self {
        Self {
            cgroup: WorkerCgroup::Proxy,
            uid: PROXY_ID,
            gid: PROXY_ID,
            groups: Vec::new(),
        }
    }

    /// Root, in the test's own cgroup: what a server of the outside world is.
    pub const fn root() -> Self {
        Self {
            cgroup: WorkerCgroup::Inherited,
            uid: 0,
            gid: 0,
            groups: Vec::new(),
        }
    }

    /// The same, in another cgroup.
    #[must_use]
    pub fn cgroup(mut self, cgroup: WorkerCgroup) -> Self {
        self.cgroup = cgroup;
        self
    }

    /// The same, with another uid.
    #[must_use]
    pub const fn uid(mut self, uid: u32) -> Self {
        self.uid = uid;
        self
    }

    /// The same, with another gid.
    #[must_use]
    pub const fn gid(mut self, gid: u32) -> Self {
        self.gid = gid;
        self
    }

    /// The same, with these supplementary groups.
    #[must_use]
    pub fn groups(mut self, groups: impl Into<Vec<u32>>) -> Self {
        self.groups = groups.into();
        self
    }
}
