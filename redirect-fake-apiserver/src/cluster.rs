// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of the server: pods with their resource versions, the history that watches read, and the
//! scripted answers to the next requests.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that JSON does not have is read as null, and made when it is written"
)]

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use serde_json::{Value, json};

/// Pods, their history, and the script.
#[derive(Debug, Default)]
pub struct Cluster {
    /// The `resourceVersion` of the whole cluster. Every change makes it larger.
    resource_version: u64,
    /// Pods by `namespace/name`.
    pods: BTreeMap<String, Value>,
    /// The changes so far, oldest first.
    history: Vec<WatchEvent>,
    /// The oldest version that a watch may start from; older ones are refused with 410.
    oldest_version: u64,
    /// The pods that a paged list has still to send, with the list's version, by `continue` token.
    pub(crate) remainders: BTreeMap<String, (u64, Vec<Value>)>,
    /// Answers to the next lists.
    pub(crate) list_answers: VecDeque<ListAnswer>,
    /// Status codes of the answers to the next requests for one pod.
    pub(crate) get_statuses: VecDeque<u16>,
    /// Answers to the next watches.
    pub(crate) watch_answers: VecDeque<WatchAnswer>,
    /// Status codes of the answers to the next Events that are created.
    pub(crate) event_statuses: VecDeque<u16>,
    /// The Events that were accepted, with their later patches applied.
    pub events: Vec<Value>,
    /// The requests so far: method, path and query.
    pub requests: Vec<String>,
}

/// A change of the cluster in the middle of an answer.
pub type ClusterChange = Box<dyn FnOnce(&mut Cluster) + Send>;

/// An answer to a list.
pub enum ListAnswer {
    /// A failure with this status code.
    Status(u16),
    /// Pages of so many pods, also if the client asks for none.
    Paged(usize),
    /// Pages of so many pods, and this change after the first page.
    PagedWithChange(usize, ClusterChange),
    /// A first page of so many pods, whose `continue` token is then refused with 410.
    ExpiredContinue(usize),
    /// No answer: the request hangs.
    Hang,
    /// A disconnect in the middle of the body.
    Disconnect,
}

impl fmt::Debug for ListAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status(_) => "Status",
            Self::Paged(_) => "Paged",
            Self::PagedWithChange(..) => "PagedWithChange",
            Self::ExpiredContinue(_) => "ExpiredContinue",
            Self::Hang => "Hang",
            Self::Disconnect => "Disconnect",
        })
    }
}

/// An answer to a watch.
#[derive(Clone, Copy, Debug)]
pub enum WatchAnswer {
    /// A failure with this status code.
    Status(u16),
    /// An `ERROR` event with this status code, then the events.
    ErrorEvent(u16),
    /// The end of the stream, at once.
    Close,
    /// A disconnect in the middle of the first event.
    Disconnect,
    /// Every event twice.
    Duplicate,
    /// No answer: the request hangs.
    Hang,
    /// An event that does not parse as one, then the events.
    MalformedEvent,
}

/// One event of a watch, and the version that the cluster had after it.
#[derive(Clone, Debug)]
pub(crate) struct WatchEvent {
    pub(crate) resource_version: u64,
    /// `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`.
    kind: &'static str,
    object: Value,
}

impl WatchEvent {
    /// The event as a watch sends it: one line of JSON.
    pub(crate) fn line(&self) -> String {
        format!("{}\n", json!({"type": self.kind, "object": self.object}))
    }
}

impl Cluster {
    /// Creates or replaces a pod. A new pod without a uid gets one; a replaced pod keeps its own.
    pub fn apply(&mut self, mut pod: Value) {
        let name = name(&pod);
        self.resource_version += 1;
        let before = self.pods.get(&name);
        let uid = before.map_or_else(
            || {
                json!(format!(
                    "00000000-0000-4000-8000-{:012x}",
                    self.resource_version
                ))
            },
            |before| before["metadata"]["uid"].clone(),
        );
        let metadata = &mut pod["metadata"];
        metadata["resourceVersion"] = json!(self.resource_version.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = uid;
        }
        let kind = if before.is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        self.pods.insert(name, pod.clone());
        self.record(kind, pod);
    }

    /// Deletes the pod `namespace/name`, if it exists.
    pub fn delete(&mut self, name: &str) {
        if let Some(mut pod) = self.pods.remove(name) {
            self.resource_version += 1;
            pod["metadata"]["resourceVersion"] = json!(self.resource_version.to_string());
            self.record("DELETED", pod);
        }
    }

    /// Moves the version on, as changes of other objects do, and sends a bookmark with it to watches.
    pub fn bookmark(&mut self) {
        self.resource_version += 1;
        let metadata = json!({"resourceVersion": self.resource_version.to_string()});
        self.record(
            "BOOKMARK",
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata}),
        );
    }

    /// Compacts the history, as etcd does: watches from any earlier version are refused with 410.
    pub const fn compact(&mut self) {
        self.resource_version += 1;
        self.oldest_version = self.resource_version;
    }

    /// Scripts the answer to the next list that has none yet.
    pub fn answer_next_list(&mut self, answer: ListAnswer) {
        self.list_answers.push_back(answer);
    }

    /// Scripts the status of the answer to the next request for one pod that has none yet.
    pub fn answer_next_get(&mut self, status: u16) {
        self.get_statuses.push_back(status);
    }

    /// Scripts the answer to the next watch that has none yet.
    pub fn answer_next_watch(&mut self, answer: WatchAnswer) {
        self.watch_answers.push_back(answer);
    }

    /// Scripts the status of the answer to the next created Event that has none yet.
    pub fn answer_next_event(&mut self, status: u16) {
        self.event_statuses.push_back(status);
    }

    /// The pods by `namespace/name`.
    pub const fn pods(&self) -> &BTreeMap<String, Value> {
        &self.pods
    }

    /// The `resourceVersion` of the whole cluster.
    pub const fn resource_version(&self) -> u64 {
        self.resource_version
    }

    /// Counts the requests whose method, path or query contains a word.
    pub fn count_requests(&self, word: &str) -> usize {
        let requests = self.requests.iter();
        requests.filter(|request| request.contains(word)).count()
    }

    /// The pods of a node.
    pub(crate) fn on_node(&self, node: &str) -> Vec<Value> {
        let pods = self.pods.values().filter(|pod| is_on(pod, node));
        pods.cloned().collect()
    }

    /// The events of a node after a version; `None` if the history has been compacted since.
    pub(crate) fn events_since(&self, version: u64, node: &str) -> Option<Vec<WatchEvent>> {
        if version < self.oldest_version {
            return None;
        }
        let events = self.history.iter().filter(|event| {
            event.resource_version > version
                && (event.kind == "BOOKMARK" || is_on(&event.object, node))
        });
        Some(events.cloned().collect())
    }

    fn record(&mut self, kind: &'static str, object: Value) {
        self.history.push(WatchEvent {
            resource_version: self.resource_version,
            kind,
            object,
        });
    }
}

fn is_on(pod: &Value, node: &str) -> bool {
    pod["spec"]["nodeName"] == node
}

/// The key of a pod: `namespace/name`.
fn name(pod: &Value) -> String {
    let part = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", part("namespace"), part("name"))
}
