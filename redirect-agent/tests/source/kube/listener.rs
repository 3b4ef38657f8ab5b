//! A listener that follows a source, and checks it at every event.

use std::{collections::BTreeMap, time::Duration};

use redirect_agent::{
    desired::Desired,
    source::{
        Source as _, SourceEvent,
        kube::{KubeSource, Settings},
    },
    workload::{Workload, WorkloadId},
};
use redirect_fake_apiserver::ApiServer;
use tokio::time::timeout;

use super::fixture::{NODE, PORTS, pod, put, settings, source};
use crate::contract::SourceFixture as _;

/// Longer than any script takes.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// A source, the state that its events have built, and invariants of that state.
pub(super) struct Listener<'a> {
    server: &'a ApiServer,
    pub(super) source: KubeSource,
    pub(super) desired: Desired,
    /// Pods that were removed: they must not come back.
    pub(super) removed: Vec<String>,
    pub(super) failures: Vec<String>,
    pub(super) snapshots: usize,
    /// Text for failure messages.
    pub(super) note: String,
}

/// Uid of a workload's pod.
pub(super) fn uid(id: &WorkloadId) -> &str {
    id.key.rsplit('/').next().unwrap()
}

/// Uids of pods, and their ports unless they are invalid.
pub(super) type Described = BTreeMap<String, Option<u16>>;

impl<'a> Listener<'a> {
    pub(super) fn new(server: &'a ApiServer) -> Self {
        Self::of(server, settings(Vec::new()))
    }

    /// A listener that has reached the state of a server with these pods.
    pub(super) async fn in_sync(server: &'a ApiServer, names: &[&str]) -> Self {
        server.with(|cluster| put(cluster, names));
        let mut listener = Self::new(server);
        listener.until_in_sync().await;
        listener
    }

    pub(super) fn of(server: &'a ApiServer, settings: Settings) -> Self {
        Self {
            server,
            source: source(server, settings),
            desired: Desired::new("kube"),
            removed: Vec::new(),
            failures: Vec::new(),
            snapshots: 0,
            note: String::new(),
        }
    }

    pub(super) fn described(&self) -> Described {
        let port = |workload: &Workload| {
            let config = &workload.policy.as_ref().ok()?.config;
            Some(ApiServer::port(config))
        };
        let workloads = self.desired.workloads();
        workloads
            .map(|workload| (uid(&workload.id).to_owned(), port(workload)))
            .collect()
    }

    /// The state of the server.
    pub(super) fn server_state(&self) -> Described {
        self.server.with(|cluster| {
            let pods = cluster.pods().values();
            let managed = pods.filter(|pod| pod["spec"]["nodeName"] == NODE);
            managed
                .map(|pod| {
                    let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
                    let port = pod["metadata"]["annotations"][PORTS].as_str().unwrap();
                    (uid, port.parse().ok())
                })
                .collect()
        })
    }

    pub(super) async fn next(&mut self) -> SourceEvent {
        let event = timeout(LONG, self.source.next()).await;
        let event = event.unwrap_or_else(|_| {
            let requests = self.server.with(|cluster| cluster.requests.clone());
            let described = self.described();
            panic!(
                "{}: no event\nso far {described:?}\n{requests:#?}",
                self.note
            )
        });
        self.take(event.clone());
        event
    }

    /// Listens until no event comes for a moment.
    pub(super) async fn while_there_is_something(&mut self) {
        let moment = Duration::from_millis(3);
        while let Ok(event) = timeout(moment, self.source.next()).await {
            self.take(event);
        }
    }

    /// Applies an event, and checks the invariants.
    fn take(&mut self, event: SourceEvent) {
        let before = self.described();
        self.desired.apply(event.clone());
        let now = self.described();
        let removed = before.into_keys().filter(|uid| !now.contains_key(uid));
        self.removed.extend(removed);
        for uid in &self.removed {
            assert!(
                !now.contains_key(uid),
                "{}: {uid} comes back: {event:?}",
                self.note
            );
        }
        match event {
            SourceEvent::Unavailable(why) => self.failures.push(why),
            SourceEvent::Snapshot(_) => self.snapshots += 1,
            SourceEvent::Changed(_) | SourceEvent::Removed(_) => {}
        }
    }

    /// Listens until the state is that of the server, and then once more: a pod that is created now has to
    /// arrive after everything that was on its way.
    pub(super) async fn until_in_sync(&mut self) {
        for name in ["last", "very-last"] {
            self.server.with(|cluster| cluster.apply(pod(name, "1")));
            while self.described() != self.server_state() {
                self.next().await;
            }
            self.server
                .with(|cluster| cluster.delete(&format!("shop/{name}")));
            while self.described() != self.server_state() {
                self.next().await;
            }
        }
    }
}
