//! What the shadow of a pod has found: whether its connections go where they would be sent.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use anyhow::Result;
use redirect_common::{abi::ShadowDiffKey, net::BePort};
use serde::Serialize;

use super::{Pod, Reader};

/// What the shadow of one pod has found.
#[derive(Clone, Debug, Serialize)]
pub struct PodShadow {
    /// The cgroup's folder; none if it is outside of what this process sees.
    pub cgroup: Option<PathBuf>,
    /// The kernel's id of the cgroup.
    pub cgroup_id: u64,
    /// What was found.
    #[serde(flatten)]
    pub found: ShadowFindings,
}

/// A pod's shadow so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShadowFindings {
    /// Connections that really went where they would be sent, since the pod was attached.
    pub agreed: u64,
    /// Connections that did not.
    pub differed: u64,
    /// Connections of which it is not known.
    pub unknown: u64,
    /// The kinds of difference under the pod's present policy, the most frequent first. The kernel
    /// keeps the most recent ones.
    pub differences: Vec<ShadowDiff>,
}

/// One kind of difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ShadowDiff {
    /// Where the connection was made to.
    pub dst: SocketAddr,
    /// The rule that decided.
    pub rule: &'static str,
    /// The proxy's port it would be sent to; none if it would be left alone.
    pub decided: Option<u16>,
    /// The proxy's port it arrived at; none if at none.
    pub real: Option<u16>,
    /// How often it was seen.
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
    /// What a pod's shadow has found; `None` if it is not one.
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
