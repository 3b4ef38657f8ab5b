//! A source that is listened to.

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

/// A source that is listened to, and what must hold at every moment.
pub(super) struct Listener<'a> {
    server: &'a ApiServer,
    pub(super) source: KubeSource,
    pub(super) desired: Desired,
    /// The pods that were wanted once and are not: they must not come back.
    pub(super) removed: Vec<String>,
    pub(super) failures: Vec<String>,
    pub(super) snapshots: usize,
    /// What is said beside a failure.
    pub(super) note: String,
}

/// The uid of a pod's workload.
pub(super) fn uid(id: &WorkloadId) -> &str {
    id.key.rsplit('/').next().unwrap()
}

/// A pod's uid, and its port unless it cannot be used.
pub(super) type Described = BTreeMap<String, Option<u16>>;

impl<'a> Listener<'a> {
    pub(super) fn new(server: &'a ApiServer) -> Self {
        Self::of(server, settings(Vec::new()))
    }

    /// With pods that both know of.
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

    /// What the server has.
    pub(super) fn server_state(&self) -> Described {
        self.server.with(|cluster| {
            let pods = cluster.pods().values();
            let ours = pods.filter(|pod| pod["spec"]["nodeName"] == NODE);
            ours.map(|pod| {
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
                "{}: nothing is said\nso far {described:?}\n{requests:#?}",
                self.note
            )
        });
        self.take(event.clone());
        event
    }

    /// Listens for as long as something is said within a moment.
    pub(super) async fn while_there_is_something(&mut self) {
        let moment = Duration::from_millis(3);
        while let Ok(event) = timeout(moment, self.source.next()).await {
            self.take(event);
        }
    }

    /// Takes in an event, and checks what must hold after each.
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

    /// Listens until it has said what the server has, and then once more: a pod that is made now has
    /// to come after all that was on its way.
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
