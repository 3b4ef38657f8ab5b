//! The findings of a pod in shadow mode: whether its connections arrive where the policy would send
//! them.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use anyhow::Result;
use redirect_common::{abi::ShadowDiffKey, net::BePort};
use serde::Serialize;

use super::reader::{Pod, Reader};

/// The findings of one pod in shadow mode.
#[derive(Clone, Debug, Serialize)]
pub struct PodShadow {
    /// The cgroup's folder; `None` if this process cannot see it.
    pub cgroup: Option<PathBuf>,
    /// The kernel's id of the cgroup.
    pub cgroup_id: u64,
    /// The findings.
    #[serde(flatten)]
    pub found: ShadowFindings,
}

/// The findings of shadow mode since the pod was attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShadowFindings {
    /// Number of connections that arrived where the policy would send them.
    pub agreed: u64,
    /// Number of connections that arrived elsewhere.
    pub differed: u64,
    /// Number of connections whose real target is unknown.
    pub unknown: u64,
    /// The kinds of difference under the pod's present policy, the most frequent first. The kernel
    /// keeps the most recent kinds.
    pub differences: Vec<ShadowDiff>,
}

/// One kind of difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ShadowDiff {
    /// The destination of the connection.
    pub dst: SocketAddr,
    /// The rule that decided.
    pub rule: &'static str,
    /// The proxy's port that the policy would send the connection to; `None` if it would be left
    /// alone.
    pub decided: Option<u16>,
    /// The proxy's port that the connection arrived at; `None` if it arrived at none.
    pub real: Option<u16>,
    /// The number of connections.
    pub times: u64,
}

impl ShadowDiff {
    fn new(key: &ShadowDiffKey, times: u64) -> Self {
        let port = |port: BePort| Some(port.get()).filter(|port| *port != 0);
        Self {
            dst: SocketAddr::new(IpAddr::from(key.addr), key.port.get()),
            rule: key.rule().map_or("", |rule| rule.name()),
            decided: port(key.decided),
            real: port(key.real),
            times,
        }
    }
}

impl Reader {
    /// The findings of a pod; `None` if the pod is not in shadow mode.
    pub fn shadow(&self, pod: &Pod) -> Result<Option<ShadowFindings>> {
        if !pod.row.flags.shadow() {
            return Ok(None);
        }
        let hits = self.hits(pod)?;
        let found = self.maps.shadow_diffs(pod.row.serial)?;
        let mut differences: Vec<_> = found
            .iter()
            .map(|(key, times)| ShadowDiff::new(key, *times))
            .collect();
        differences.sort_unstable_by(|a, b| b.times.cmp(&a.times).then_with(|| a.cmp(b)));
        Ok(Some(ShadowFindings {
            agreed: hits.agreed,
            differed: hits.differed,
            unknown: hits.unknown,
            differences,
        }))
    }
}
