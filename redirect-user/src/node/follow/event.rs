//! The events of followed pods, as values, lines and JSON.

use std::{fmt, path::Path};

use anyhow::Error;
use serde::{Serialize, Serializer};

use crate::{node::AddressChange, sys::netns::NetnsRef};

/// An event of a followed pod.
#[derive(Debug)]
pub struct FollowEvent<'a> {
    /// The pod's cgroup.
    pub cgroup: &'a Path,
    /// The event.
    pub kind: FollowEventKind,
}

/// The kinds of events of a pod.
#[derive(Debug)]
pub enum FollowEventKind {
    /// The pod's network namespace is watched from now on.
    Followed(NetnsRef),
    /// No process of the pod is in the namespace that it was attached with, so at present no
    /// namespace can be watched.
    Unseen,
    /// The pod's addresses have changed, and the maps are up to date again.
    Changed(AddressChange),
    /// The pod's addresses could not be brought up to date. The follower tries again, and repeats
    /// the event only if the attempt fails for another reason.
    Failed(Error),
    /// The pod is no longer attached.
    Gone,
}

impl fmt::Display for FollowEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.cgroup.display())?;
        match &self.kind {
            FollowEventKind::Followed(netns) => write!(f, "following network namespace {netns}"),
            FollowEventKind::Unseen => {
                f.write_str("not followed: no process of the pod is in its network namespace")
            }
            FollowEventKind::Changed(change) => {
                let added = change.added.iter().map(|net| format!("+{net}"));
                let removed = change.removed.iter().map(|net| format!("-{net}"));
                let sources = change.sources.iter().map(|addr| format!("shows {addr}"));
                let rerouted = change.rerouted.iter().map(|net| format!("rerouted {net}"));
                let words: Vec<_> = added
                    .chain(removed)
                    .chain(sources)
                    .chain(rerouted)
                    .collect();
                f.write_str(&words.join(" "))
            }
            FollowEventKind::Failed(error) => write!(f, "not up to date: {error:#}"),
            FollowEventKind::Gone => f.write_str("no longer attached"),
        }
    }
}

/// The JSON form of every event.
#[derive(Default, Serialize)]
struct Record<'a> {
    cgroup: &'a str,
    event: &'static str,
    netns: Option<String>,
    added: Vec<String>,
    removed: Vec<String>,
    sources: Vec<String>,
    rerouted: Vec<String>,
    error: Option<String>,
}

impl Serialize for FollowEvent<'_> {
    /// Writes one object for any event. Fields that do not apply are null or empty.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cgroup = self.cgroup.to_string_lossy();
        let mut record = Record {
            cgroup: &cgroup,
            ..Record::default()
        };
        match &self.kind {
            FollowEventKind::Followed(netns) => {
                record.event = "followed";
                record.netns = Some(netns.to_string());
            }
            FollowEventKind::Unseen => record.event = "unseen",
            FollowEventKind::Changed(change) => {
                record.event = "changed";
                record.added = texts(&change.added);
                record.removed = texts(&change.removed);
                record.sources = texts(&change.sources);
                record.rerouted = texts(&change.rerouted);
            }
            FollowEventKind::Failed(error) => {
                record.event = "failed";
                record.error = Some(format!("{error:#}"));
            }
            FollowEventKind::Gone => record.event = "gone",
        }
        record.serialize(serializer)
    }
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
}
