//! The pods of a node, as the Kubernetes API describes them.

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
    watch::{News, Patience, news},
};
use crate::{
    cgroup_ref::{CgroupRef, Hierarchies},
    source::{Event, Source},
    workload::Workload,
};

/// How often it is looked whether a pod that the API server has forgotten still runs.
const LOOK: Duration = Duration::from_secs(1);

/// What a source of pods needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node whose pods are described.
    pub node: String,
    /// What holds for pods that say nothing else.
    pub mesh: Mesh,
    /// Where cgroup2 is mounted.
    pub mounts: Vec<PathBuf>,
    /// How long things may take.
    pub patience: Patience,
}

/// The pods of a node that are in the mesh.
pub struct KubeSource {
    news: BoxStream<'static, News>,
    translator: Translator,
    mounts: Vec<PathBuf>,
    /// The pods as they were said to be, by their uid; none before the first snapshot.
    said: Option<Pods>,
    /// Those of them that the API server has forgotten, and that still run.
    leaving: Pods,
    /// When to look at these next.
    look: Instant,
    to_say: VecDeque<Event>,
}

type Pods = BTreeMap<String, Workload>;

impl fmt::Debug for KubeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeSource")
            .field("said", &self.said)
            .field("leaving", &self.leaving)
            .finish_non_exhaustive()
    }
}

impl KubeSource {
    /// Asks this API server, as soon as it is waited for. Has to be called in a runtime.
    pub fn new(client: Client, settings: Settings) -> Self {
        let Settings {
            node,
            mesh,
            mounts,
            patience,
        } = settings;
        Self {
            news: news(Api::all(client), &node, patience),
            translator: Translator::new(mesh),
            mounts,
            said: None,
            leaving: Pods::new(),
            look: Instant::now(),
            to_say: VecDeque::new(),
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::All(pods) => self.replace(&pods),
            News::Changed(pod) => self.change(&pod),
            News::Gone(pod) => self.remove(&pod.uid().unwrap_or_default()),
            News::Trouble(reason) => self.to_say.push_back(Event::Unavailable(reason)),
            News::Back => {
                if self.said.is_some() {
                    self.to_say.push_back(self.snapshot());
                }
            }
        }
    }

    fn replace(&mut self, pods: &[Pod]) {
        let ours = pods
            .iter()
            .filter_map(|pod| Some((pod, self.workload(pod)?)));
        let now: Pods = ours
            .filter_map(|(pod, workload)| Some((pod.uid()?, workload)))
            .collect();
        let listed: BTreeSet<_> = pods.iter().filter_map(ResourceExt::uid).collect();
        let before = self.said.replace(now).unwrap_or_default();
        let mut gone = mem::take(&mut self.leaving);
        gone.extend(before);
        gone.retain(|uid, _| !listed.contains(uid));
        self.leaving = self.running(gone);
        self.to_say.push_back(self.snapshot());
    }

    fn change(&mut self, pod: &Pod) {
        let workload = self.workload(pod);
        let (Some(said), Some(uid)) = (&mut self.said, pod.uid()) else {
            return;
        };
        match workload {
            Some(workload) => {
                let before = said.insert(uid, workload.clone());
                if before.as_ref() != Some(&workload) {
                    self.to_say.push_back(Event::Changed(Box::new(workload)));
                }
            }
            None => {
                if let Some(before) = said.remove(&uid) {
                    self.to_say.push_back(Event::Removed(before.id));
                }
            }
        }
    }

    /// The API server has forgotten a pod. With `--force` it does while the pod still runs.
    fn remove(&mut self, uid: &str) {
        let removed = self.said.as_mut().and_then(|said| said.remove_entry(uid));
        let Some((uid, workload)) = removed else {
            return;
        };
        let running = self.running([(uid, workload.clone())].into());
        if running.is_empty() {
            self.to_say.push_back(Event::Removed(workload.id));
        }
        self.leaving.extend(running);
    }

    /// Lets go those that have ended.
    fn look(&mut self) {
        self.look = Instant::now() + LOOK;
        let before = mem::take(&mut self.leaving);
        self.leaving = self.running(before.clone());
        for (uid, workload) in before {
            if !self.leaving.contains_key(&uid) {
                self.to_say.push_back(Event::Removed(workload.id));
            }
        }
    }

    /// Those whose cgroups have processes in them, as far as can be told.
    fn running(&self, mut pods: Pods) -> Pods {
        if pods.is_empty() {
            return pods;
        }
        let hierarchies = Hierarchies::at(self.mounts.clone());
        let runs = |cgroup: &CgroupRef| match cgroup.find(&hierarchies)? {
            Some(folder) => anyhow::Ok(is_populated(&folder)?),
            None => Ok(false),
        };
        pods.retain(|_, pod| {
            let cgroup = pod.cgroup.as_ref();
            cgroup.is_some_and(|cgroup| runs(cgroup).unwrap_or(true))
        });
        pods
    }

    fn snapshot(&self) -> Event {
        let said = self.said.iter().flat_map(Pods::values);
        Event::Snapshot(said.chain(self.leaving.values()).cloned().collect())
    }

    /// A pod as a workload, if it is ours.
    fn workload(&self, pod: &Pod) -> Option<Workload> {
        match self.translator.workload(pod)? {
            Ok(workload) => Some(workload),
            Err(reason) => {
                let namespace = pod.namespace().unwrap_or_default();
                debug!(namespace, pod = pod.name_any(), "not ours: {reason}");
                None
            }
        }
    }
}

impl Source for KubeSource {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.to_say.pop_front() {
                return event;
            }
            let looking = sleep_until(self.look);
            tokio::select! {
                Some(news) = self.news.next() => self.take(news),
                () = looking, if !self.leaving.is_empty() => self.look(),
            }
        }
    }
}
