// SPDX-License-Identifier: MIT OR Apache-2.0
//! The world outside a pod: the network namespace at the other end of its link, with any address that a test
//! wants to reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, bail};

use crate::{
    identity::{Identity, WorkerCgroup},
    netns,
    worker::{Worker, WorkerSpec},
};

/// The network namespace at the other end of a pod's link.
#[derive(Debug)]
pub struct World {
    pub(crate) namespace: String,
}

impl World {
    /// The world's own IPv4 address, the pod's gateway.
    pub const V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    /// The world's own IPv6 address, the pod's gateway.
    pub const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 1);

    /// The namespace's name, for `ip netns exec`.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Gives the world another address. The pod's default route leads there.
    pub fn add_address(&self, address: IpAddr) -> Result<()> {
        let line = match address {
            IpAddr::V4(v4) => format!("addr add {v4}/32 dev eth0\n"),
            IpAddr::V6(v6) => format!("addr add {v6}/128 dev eth0 nodad\n"),
        };
        netns::batch(&self.namespace, &line)
    }

    /// Starts a worker in this namespace, usually as [`Identity::root`]. The world has no containers, so its cgroup
    /// is [`WorkerCgroup::Inherited`] or a folder.
    pub fn worker(&self, identity: &Identity) -> Result<Worker> {
        let cgroup = match &identity.cgroup {
            WorkerCgroup::Inherited => None,
            WorkerCgroup::Folder(path) => Some(path.clone()),
            WorkerCgroup::App | WorkerCgroup::Proxy => {
                bail!("start a worker: the world has no containers")
            }
        };
        Worker::spawn(&WorkerSpec::new(cgroup, &self.namespace, identity))
    }
}
