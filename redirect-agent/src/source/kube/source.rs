//! The source of pods: those of one node that are in the mesh, as workloads.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, mem,
    path::PathBuf,
    time::Duration,
};

use futures_util::{StreamExt as _, stream::BoxStream};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt};
use redirect_user::sys::cgroup::is_populated;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::{
    mesh::Mesh,
    pod_id::NAME,
    translate::Translator,
    watch::{PodEvent, Timeouts, pod_events},
};
use crate::{
    cgroup_ref::{CgroupRef, Hierarchies},
    source::{Source, SourceEvent},
    workload::Workload,
};

/// Interval of the check whether orphans still run.
const ORPHAN_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Settings of a source of pods.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node whose pods are described.
    pub node: String,
    /// Defaults for pods without annotations.
    pub mesh: Mesh,
    /// Mount points of cgroup2.
    pub mounts: Vec<PathBuf>,
    /// Time limits of requests.
    pub timeouts: Timeouts,
}

/// The pods of a node that are in the mesh.
pub struct KubeSource {
    events: BoxStream<'static, PodEvent>,
    translator: Translator,
    mounts: Vec<PathBuf>,
    /// The pods by uid, as they were described last; `None` before the first snapshot.
    described: Option<Pods>,
    /// Pods that were deleted from the API server, and still run.
    orphans: Pods,
    /// Time of the next check of the orphans.
    next_check: Instant,
    queue: VecDeque<SourceEvent>,
}

type Pods = BTreeMap<String, Workload>;

impl fmt::Debug for KubeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeSource")
            .field("described", &self.described)
            .field("orphans", &self.orphans)
            .finish_non_exhaustive()
    }
}

impl KubeSource {
    /// A source of this API server's pods. The first request is made by the first [`Source::next`]. Must be called
    /// in a tokio runtime.
    pub fn new(client: Client, settings: Settings) -> Self {
        let Settings {
            node,
            mesh,
            mounts,
            timeouts,
        } = settings;
        Self {
            events: pod_events(Api::all(client), &node, timeouts),
            translator: Translator::new(mesh),
            mounts,
            described: None,
            orphans: Pods::new(),
            next_check: Instant::now(),
            queue: VecDeque::new(),
        }
    }

    fn handle(&mut self, event: PodEvent) {
        match event {
            PodEvent::Relisted(pods) => self.relist(&pods),
            PodEvent::Applied(pod) => self.apply(&pod),
            PodEvent::Deleted(pod) => self.delete(&pod.uid().unwrap_or_default()),
            PodEvent::Unavailable(reason) => {
                self.queue.push_back(SourceEvent::Unavailable(reason));
            }
            PodEvent::Recovered => {
                if self.described.is_some() {
                    self.queue.push_back(self.snapshot());
                }
            }
        }
    }

    fn relist(&mut self, pods: &[Pod]) {
        let managed = pods
            .iter()
            .filter_map(|pod| Some((pod, self.workload(pod)?)));
        let now: Pods = managed
            .filter_map(|(pod, workload)| Some((pod.uid()?, workload)))
            .collect();
        let listed: BTreeSet<_> = pods.iter().filter_map(ResourceExt::uid).collect();
        let before = self.described.replace(now).unwrap_or_default();
        let mut gone = mem::take(&mut self.orphans);
        gone.extend(before);
        gone.retain(|uid, _| !listed.contains(uid));
        self.orphans = self.still_running(gone);
        self.queue.push_back(self.snapshot());
    }

    fn apply(&mut self, pod: &Pod) {
        let workload = self.workload(pod);
        let (Some(described), Some(uid)) = (&mut self.described, pod.uid()) else {
            return;
        };
        match workload {
            Some(workload) => {
                let before = described.insert(uid, workload.clone());
                if before.as_ref() != Some(&workload) {
                    self.queue
                        .push_back(SourceEvent::Changed(Box::new(workload)));
                }
            }
            None => {
                if let Some(before) = described.remove(&uid) {
                    self.queue.push_back(SourceEvent::Removed(before.id));
                }
            }
        }
    }

    /// Removes a deleted pod, unless it still runs, as it does after `kubectl delete --force`.
    fn delete(&mut self, uid: &str) {
        let deleted = self
            .described
            .as_mut()
            .and_then(|described| described.remove_entry(uid));
        let Some((uid, workload)) = deleted else {
            return;
        };
        let running = self.still_running([(uid, workload.clone())].into());
        if running.is_empty() {
            self.queue.push_back(SourceEvent::Removed(workload.id));
        }
        self.orphans.extend(running);
    }

    /// Removes orphans that have ended.
    fn check_orphans(&mut self) {
        self.next_check = Instant::now() + ORPHAN_CHECK_INTERVAL;
        let before = mem::take(&mut self.orphans);
        self.orphans = self.still_running(before.clone());
        for (uid, workload) in before {
            if !self.orphans.contains_key(&uid) {
                self.queue.push_back(SourceEvent::Removed(workload.id));
            }
        }
    }

    /// Keeps the pods whose cgroups have processes, or cannot be looked at.
    fn still_running(&self, mut pods: Pods) -> Pods {
        if pods.is_empty() {
            return pods;
        }
        let hierarchies = Hierarchies::at(self.mounts.clone());
        let runs = |cgroup: &CgroupRef| match cgroup.find(&hierarchies)? {
            Some(path) => anyhow::Ok(is_populated(&path)?),
            None => Ok(false),
        };
        pods.retain(|_, pod| {
            let cgroup = pod.cgroup.as_ref();
            cgroup.is_some_and(|cgroup| runs(cgroup).unwrap_or(true))
        });
        pods
    }

    fn snapshot(&self) -> SourceEvent {
        let described = self.described.iter().flat_map(Pods::values);
        SourceEvent::Snapshot(described.chain(self.orphans.values()).cloned().collect())
    }

    /// Translates a pod to a workload; `None` if the pod is skipped.
    fn workload(&self, pod: &Pod) -> Option<Workload> {
        match self.translator.workload(pod)? {
            Ok(workload) => Some(workload),
            Err(reason) => {
                let namespace = pod.namespace().unwrap_or_default();
                debug!(namespace, pod = pod.name_any(), "skipped: {reason}");
                None
            }
        }
    }
}

impl Source for KubeSource {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn next(&mut self) -> SourceEvent {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return event;
            }
            let check = sleep_until(self.next_check);
            tokio::select! {
                Some(event) = self.events.next() => self.handle(event),
                () = check, if !self.orphans.is_empty() => self.check_orphans(),
            }
        }
    }
}
