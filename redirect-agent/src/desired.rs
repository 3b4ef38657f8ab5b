//! What all sources want, as far as they have said.

use std::collections::BTreeMap;

use crate::{
    source::Event,
    workload::{Workload, WorkloadId},
};

/// The workloads of each source.
#[derive(Debug, Default)]
pub struct Desired {
    sources: BTreeMap<&'static str, SourceState>,
}

/// What is known of a source.
#[derive(Debug, Default)]
pub struct SourceState {
    /// Its workloads; `None` before its first snapshot.
    workloads: Option<BTreeMap<WorkloadId, Workload>>,
    /// Why it cannot be asked, if so.
    pub trouble: Option<String>,
}

impl Desired {
    /// Nothing yet, of these sources.
    pub fn of(sources: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            sources: sources
                .into_iter()
                .map(|name| (name, SourceState::default()))
                .collect(),
        }
    }

    /// Takes in what a source says.
    pub fn apply(&mut self, source: &'static str, event: Event) {
        let state = self.sources.entry(source).or_default();
        state.trouble = None;
        match event {
            Event::Snapshot(all) => {
                let named = all
                    .into_iter()
                    .map(|workload| (workload.id.clone(), workload));
                state.workloads = Some(named.collect());
            }
            Event::Changed(workload) => {
                if let Some(workloads) = &mut state.workloads {
                    workloads.insert(workload.id.clone(), *workload);
                }
            }
            Event::Removed(id) => {
                if let Some(workloads) = &mut state.workloads {
                    workloads.remove(&id);
                }
            }
            Event::Unavailable(reason) => state.trouble = Some(reason),
        }
    }

    /// Whether every source has described all that it has. Before that nothing may be detached,
    /// because nothing is known to be unwanted.
    pub fn is_complete(&self) -> bool {
        self.sources.values().all(|state| state.workloads.is_some())
    }

    /// The workloads of all sources, by id.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        let known = self
            .sources
            .values()
            .filter_map(|state| state.workloads.as_ref());
        known.flat_map(BTreeMap::values)
    }

    /// Each source, and why it cannot be asked, if so.
    pub fn sources(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        let states = self.sources.iter();
        states.map(|(name, state)| (*name, state.trouble.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(key: &str) -> Workload {
        Workload {
            id: WorkloadId {
                source: "file",
                key: key.to_owned(),
            },
            name: key.to_owned(),
            cgroup: None,
            netns: None,
            policy: Err("never".to_owned()),
        }
    }

    fn keys(desired: &Desired) -> Vec<&str> {
        let workloads = desired.workloads();
        workloads.map(|workload| workload.id.key.as_str()).collect()
    }

    #[test]
    fn a_snapshot_replaces_and_trouble_changes_nothing() {
        let mut desired = Desired::of(["file", "other"]);
        assert!(!desired.is_complete());
        desired.apply("file", Event::Unavailable("gone".to_owned()));
        assert_eq!(desired.sources().next(), Some(("file", Some("gone"))));
        desired.apply("file", Event::Snapshot(vec![workload("a"), workload("b")]));
        assert!(!desired.is_complete(), "the other one has said nothing");
        desired.apply("other", Event::Snapshot(Vec::new()));
        assert!(desired.is_complete());
        desired.apply("file", Event::Removed(workload("a").id));
        desired.apply("file", Event::Changed(Box::new(workload("c"))));
        assert_eq!(keys(&desired), ["b", "c"]);
        desired.apply("file", Event::Unavailable("gone".to_owned()));
        assert_eq!(keys(&desired), ["b", "c"]);
        desired.apply("file", Event::Snapshot(vec![workload("d")]));
        assert_eq!(keys(&desired), ["d"]);
        assert_eq!(desired.sources().next(), Some(("file", None)));
    }
}
