//! The summary of each pod that `list` and `status` show.

use std::path::PathBuf;

use anyhow::Result;
use redirect_common::chain::{RuleId, Verdict};
use serde::Serialize;

use super::{
    health::{ForeignProgram, Health, MissingProgram},
    reader::{Pod, Reader},
};
use crate::sys::cgroup;

/// A summary of one pod.
#[derive(Clone, Debug, Serialize)]
pub struct PodSummary {
    /// The cgroup's folder; `None` if this process cannot see it.
    pub cgroup: Option<PathBuf>,
    /// The kernel's id of the cgroup.
    pub cgroup_id: u64,
    /// `attached`, or `damaged` if a program is missing.
    pub state: &'static str,
    /// The programs that the pod lacks.
    pub missing: Vec<MissingProgram>,
    /// The programs of others that run for the cgroup at the same hooks.
    pub foreign: Vec<ForeignProgram>,
    /// The policy that the row names.
    pub policy: u32,
    /// The network namespace's cookie.
    pub netns_cookie: u64,
    /// Whether the pod is in shadow mode.
    pub shadow: bool,
    /// The number of ranges of the policy.
    pub ranges: usize,
    /// Number of connections sent to the proxy's outbound port.
    pub redirected_out: u64,
    /// Number of connections sent to the proxy's inbound port.
    pub redirected_in: u64,
    /// Number of queries sent to the mesh's resolver.
    pub redirected_dns: u64,
    /// Number of connections left alone.
    pub direct: u64,
    /// Number of connections that reached the proxy without their original destination.
    pub lost: u64,
    /// Number of connections that were refused because there was no memory for their original
    /// destination.
    pub refused: u64,
}

impl Reader {
    /// Summaries of all attached pods.
    pub fn summaries(&self) -> Result<Vec<PodSummary>> {
        let pods = self.pods()?;
        let paths = cgroup::find(&pods.iter().map(|pod| pod.id).collect::<Vec<_>>())?;
        let counts = self.cidr_counts()?;
        let health = self.health(&pods)?;
        pods.iter()
            .zip(paths)
            .zip(health)
            .map(|((pod, cgroup), health)| {
                let ranges = counts.get(&pod.row.policy).copied().unwrap_or_default();
                self.summary(pod, cgroup, health, ranges)
            })
            .collect()
    }

    fn summary(
        &self,
        pod: &Pod,
        cgroup: Option<PathBuf>,
        health: Health,
        ranges: usize,
    ) -> Result<PodSummary> {
        let hits = self.hits(pod)?;
        let with = |wanted: Verdict| {
            RuleId::ALL
                .into_iter()
                // Connections of the pod to itself are counted where they are made.
                .filter(|rule| rule.verdict() == wanted && *rule != RuleId::InLooped)
                .fold(0_u64, |sum, rule| sum.wrapping_add(hits.of(rule)))
        };
        Ok(PodSummary {
            cgroup,
            cgroup_id: pod.id,
            state: health.state(),
            missing: health.missing,
            foreign: health.foreign,
            policy: pod.row.policy.0,
            netns_cookie: pod.row.netns,
            shadow: pod.row.flags.shadow(),
            ranges,
            redirected_out: with(Verdict::Out),
            redirected_in: with(Verdict::In),
            redirected_dns: with(Verdict::Dns),
            direct: with(Verdict::Direct),
            lost: hits.flow_lost,
            refused: hits.record_failed,
        })
    }
}
