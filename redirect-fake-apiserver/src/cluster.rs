// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the server knows: pods with their versions, what has happened to them, and how the next
//! requests are to be answered.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that JSON does not have is read as null, and made when it is written"
)]

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use serde_json::{Value, json};

/// Pods, their past, and the script.
#[derive(Debug, Default)]
pub struct Cluster {
    /// The version of the whole: every change makes it larger.
    version: u64,
    /// Pods by namespace and name.
    pods: BTreeMap<String, Value>,
    /// What has happened, oldest first.
    past: Vec<Happened>,
    /// A watch from an older version is refused with 410.
    oldest: u64,
    /// What the rest of a list is answered from, by its token.
    pub(crate) rests: BTreeMap<String, (u64, Vec<Value>)>,
    /// How the next lists are answered; well if nothing is said.
    pub(crate) lists: VecDeque<OnList>,
    /// The status of the answers to the next requests for one pod; well if nothing is said.
    pub(crate) gets: VecDeque<u16>,
    /// How the next watches are answered; well if nothing is said.
    pub(crate) watches: VecDeque<OnWatch>,
    /// The status of the answers to the next Events; 201 if nothing is said.
    pub(crate) posts: VecDeque<u16>,
    /// The Events that were accepted, as they are now.
    pub events: Vec<Value>,
    /// The requests so far: method, path and query.
    pub requests: Vec<String>,
}

/// What happens to the cluster in the middle of an answer.
pub type Happening = Box<dyn FnOnce(&mut Cluster) + Send>;

/// How a list is answered.
pub enum OnList {
    /// With this status.
    Status(u16),
    /// Page by page, of so many pods, whether asked for or not.
    Paged(usize),
    /// The same, and this happens after the first page.
    Between(usize, Happening),
    /// The first page, of so many pods; the token for the next is refused with 410.
    Forgotten(usize),
    /// Not at all.
    Silence,
    /// By closing the connection in the middle.
    Cut,
}

impl fmt::Debug for OnList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status(_) => "Status",
            Self::Paged(_) => "Paged",
            Self::Between(..) => "Between",
            Self::Forgotten(_) => "Forgotten",
            Self::Silence => "Silence",
            Self::Cut => "Cut",
        })
    }
}

/// How a watch is answered.
#[derive(Clone, Copy, Debug)]
pub enum OnWatch {
    /// With this status.
    Status(u16),
    /// Well, with an error event of this status first.
    Error(u16),
    /// By closing it at once.
    Close,
    /// By closing the connection in the middle of the first event.
    Cut,
    /// Well, with every event twice.
    Twice,
    /// Not at all.
    Silence,
    /// With something that is no event first.
    Garbage,
}

/// What has happened at a version.
#[derive(Clone, Debug)]
pub(crate) struct Happened {
    pub(crate) version: u64,
    kind: &'static str,
    object: Value,
}

impl Happened {
    /// As a watch tells it, in a line.
    pub(crate) fn line(&self) -> String {
        format!("{}\n", json!({"type": self.kind, "object": self.object}))
    }
}

impl Cluster {
    /// A pod is made, or is another now. It gets a uid if there was none of its name.
    pub fn put(&mut self, mut pod: Value) {
        let name = name(&pod);
        self.version += 1;
        let before = self.pods.get(&name);
        let uid = before.map_or_else(
            || json!(format!("00000000-0000-4000-8000-{:012x}", self.version)),
            |before| before["metadata"]["uid"].clone(),
        );
        let metadata = &mut pod["metadata"];
        metadata["resourceVersion"] = json!(self.version.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = uid;
        }
        let kind = if before.is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        self.pods.insert(name, pod.clone());
        self.happens(kind, pod);
    }

    /// A pod is gone: `namespace/name`.
    pub fn delete(&mut self, name: &str) {
        if let Some(mut pod) = self.pods.remove(name) {
            self.version += 1;
            pod["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.happens("DELETED", pod);
        }
    }

    /// Other things have changed; watches are told the version only.
    pub fn bookmark(&mut self) {
        self.version += 1;
        let metadata = json!({"resourceVersion": self.version.to_string()});
        self.happens(
            "BOOKMARK",
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata}),
        );
    }

    /// Forgets the past.
    pub const fn compact(&mut self) {
        self.version += 1;
        self.oldest = self.version;
    }

    /// The next list that is not spoken for yet is answered like this.
    pub fn on_list(&mut self, answer: OnList) {
        self.lists.push_back(answer);
    }

    /// The next request for one pod that is not spoken for yet is answered with this
    /// status.
    pub fn on_get(&mut self, status: u16) {
        self.gets.push_back(status);
    }

    /// The next watch that is not spoken for yet is answered like this.
    pub fn on_watch(&mut self, answer: OnWatch) {
        self.watches.push_back(answer);
    }

    /// The next Event that is not spoken for yet is answered with this status.
    pub fn on_event(&mut self, status: u16) {
        self.posts.push_back(status);
    }

    /// The pods, and whether there are any, by `namespace/name`.
    pub const fn pods(&self) -> &BTreeMap<String, Value> {
        &self.pods
    }

    /// The version of the whole.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The requests whose path and query contain a word.
    pub fn count(&self, word: &str) -> usize {
        let requests = self.requests.iter();
        requests.filter(|request| request.contains(word)).count()
    }

    /// The pods of a node.
    pub(crate) fn on_node(&self, node: &str) -> Vec<Value> {
        let pods = self.pods.values().filter(|pod| is_on(pod, node));
        pods.cloned().collect()
    }

    /// What has happened on a node since a version; `None` if that is forgotten.
    pub(crate) fn since(&self, version: u64, node: &str) -> Option<Vec<Happened>> {
        if version < self.oldest {
            return None;
        }
        let past = self.past.iter().filter(|past| {
            past.version > version && (past.kind == "BOOKMARK" || is_on(&past.object, node))
        });
        Some(past.cloned().collect())
    }

    fn happens(&mut self, kind: &'static str, object: Value) {
        self.past.push(Happened {
            version: self.version,
            kind,
            object,
        });
    }
}

fn is_on(pod: &Value, node: &str) -> bool {
    pod["spec"]["nodeName"] == node
}

fn name(pod: &Value) -> String {
    let part = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", part("namespace"), part("name"))
}
