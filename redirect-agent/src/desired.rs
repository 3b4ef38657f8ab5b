//! What the source wants, as far as it has said.

use std::collections::BTreeMap;

use crate::{
    source::Event,
    workload::{Workload, WorkloadId},
};

/// The workloads of the source.
#[derive(Debug)]
pub struct Desired {
    /// The source's name.
    source: &'static str,
    /// Its workloads; `None` before its first snapshot.
    workloads: Option<BTreeMap<WorkloadId, Workload>>,
    /// Why it cannot be asked, if so.
    trouble: Option<String>,
    sandboxes: BTreeMap<WorkloadId, Held>,
}

/// A sandbox that a container runtime has made for a pod that has no process yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The runtime's name for it.
    pub container_id: String,
    /// The pod, in the sandbox's network namespace.
    pub workload: Workload,
}

/// A sandbox, until its runtime or the pod's source says that it is gone.
#[derive(Debug)]
struct Held {
    sandbox: Sandbox,
    /// Whether the source has described the pod: then it knows better, all but the namespace. It may be
    /// behind the runtime, and until then it does not mean anything that it does not know the pod.
    is_described: bool,
}

impl Desired {
    /// Nothing yet, of a source with this name.
    pub const fn new(source: &'static str) -> Self {
        Self {
            source,
            workloads: None,
            trouble: None,
            sandboxes: BTreeMap::new(),
        }
    }

    /// Takes in what the source says.
    pub fn apply(&mut self, event: Event) {
        self.trouble = None;
        match event {
            Event::Snapshot(all) => {
                let named = all
                    .into_iter()
                    .map(|workload| (workload.id.clone(), workload));
                let mut named: BTreeMap<_, _> = named.collect();
                self.sandboxes.retain(|_, held| held.add_to_all(&mut named));
                self.workloads = Some(named);
            }
            Event::Changed(mut workload) => {
                if let Some(workloads) = &mut self.workloads {
                    if let Some(held) = self.sandboxes.get_mut(&workload.id) {
                        held.add_to(&mut workload);
                    }
                    workloads.insert(workload.id.clone(), *workload);
                }
            }
            Event::Removed(id) => {
                if let Some(workloads) = &mut self.workloads {
                    workloads.remove(&id);
                    self.sandboxes.remove(&id);
                }
            }
            Event::Unavailable(reason) => self.trouble = Some(reason),
        }
    }

    /// There is a sandbox. What its source has said of the pod, if anything, counts more.
    pub fn hold(&mut self, sandbox: Sandbox) {
        let id = sandbox.workload.id.clone();
        let before = self.sandboxes.remove(&id);
        let known = self.workloads.as_mut();
        let said = known.as_ref().and_then(|workloads| workloads.get(&id));
        let mut held = Held {
            is_described: before.map_or(said.is_some(), |before| before.is_described),
            sandbox,
        };
        if let Some(workloads) = known {
            match workloads.get_mut(&id) {
                Some(said) if held.is_described => held.add_to(said),
                _ => drop(workloads.insert(id.clone(), held.sandbox.workload.clone())),
            }
        }
        self.sandboxes.insert(id, held);
    }

    /// Sandboxes are gone, by the names of those that there are.
    pub fn release(&mut self, is_there: impl Fn(&str) -> bool) {
        let known = &mut self.workloads;
        self.sandboxes.retain(|id, held| {
            if is_there(&held.sandbox.container_id) {
                return true;
            }
            if let Some(workloads) = known {
                match workloads.get_mut(id) {
                    Some(said) if held.is_described => said.netns = None,
                    _ => drop(workloads.remove(id)),
                }
            }
            false
        });
    }

    /// Whether the source has described all that it has. Before that nothing may be detached, because
    /// nothing is known to be unwanted.
    pub const fn is_complete(&self) -> bool {
        self.workloads.is_some()
    }

    /// The workloads, by id.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.iter().flat_map(BTreeMap::values)
    }

    /// The source's name.
    pub const fn source(&self) -> &'static str {
        self.source
    }

    /// Why the source cannot be asked, if so.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

impl Held {
    /// Adds to what a source says.
    fn add_to(&mut self, said: &mut Workload) {
        self.is_described = true;
        said.netns.clone_from(&self.sandbox.workload.netns);
    }

    /// Adds to all that a source says; false if that means that the pod is gone.
    fn add_to_all(&mut self, said: &mut BTreeMap<WorkloadId, Workload>) -> bool {
        let workload = &self.sandbox.workload;
        match said.get_mut(&workload.id) {
            Some(said) => self.add_to(said),
            None if self.is_described => return false,
            None => drop(said.insert(workload.id.clone(), workload.clone())),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use redirect_user::sys::netns::NetnsRef;

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
        let mut desired = Desired::new("file");
        assert!(!desired.is_complete());
        desired.apply(Event::Unavailable("gone".to_owned()));
        assert_eq!(desired.trouble(), Some("gone"));
        assert!(!desired.is_complete(), "it has said nothing");
        desired.apply(Event::Snapshot(vec![workload("a"), workload("b")]));
        assert!(desired.is_complete());
        desired.apply(Event::Removed(workload("a").id));
        desired.apply(Event::Changed(Box::new(workload("c"))));
        assert_eq!(keys(&desired), ["b", "c"]);
        desired.apply(Event::Unavailable("gone".to_owned()));
        assert_eq!(keys(&desired), ["b", "c"]);
        desired.apply(Event::Snapshot(vec![workload("d")]));
        assert_eq!(keys(&desired), ["d"]);
        assert_eq!(desired.trouble(), None);
    }

    fn sandbox(key: &str, container_id: &str) -> Sandbox {
        let mut workload = workload(key);
        workload.netns = Some(NetnsRef::Path(container_id.into()));
        workload.policy = Err("the runtime's".to_owned());
        Sandbox {
            container_id: container_id.to_owned(),
            workload,
        }
    }

    /// The names, and the namespaces.
    fn places(desired: &Desired) -> Vec<(&str, String)> {
        let workloads = desired.workloads();
        workloads
            .map(|workload| {
                let netns = workload.netns.as_ref();
                let netns = netns.map_or_else(|| "-".to_owned(), ToString::to_string);
                (workload.id.key.as_str(), netns)
            })
            .collect()
    }

    fn places_are(desired: &Desired, expected: &[(&str, &str)]) {
        let places = places(desired);
        let places: Vec<_> = places.iter().map(|(key, netns)| (*key, &**netns)).collect();
        assert_eq!(places, expected);
    }

    #[test]
    fn a_sandbox_waits_for_its_source_and_ends_with_it() {
        let mut desired = Desired::new("file");
        desired.hold(sandbox("a", "n1"));
        assert!(!desired.is_complete(), "a sandbox is no snapshot");
        desired.apply(Event::Snapshot(vec![workload("b")]));
        places_are(&desired, &[("a", "n1"), ("b", "-")]);
        desired.apply(Event::Snapshot(Vec::new()));
        places_are(&desired, &[("a", "n1")]);
        desired.hold(sandbox("a", "n2"));
        desired.apply(Event::Snapshot(Vec::new()));
        places_are(&desired, &[("a", "n2")]);
        desired.apply(Event::Changed(Box::new(workload("a"))));
        places_are(&desired, &[("a", "n2")]);
        desired.apply(Event::Snapshot(Vec::new()));
        places_are(&desired, &[]);
        desired.hold(sandbox("a", "n3"));
        desired.apply(Event::Removed(workload("a").id));
        places_are(&desired, &[]);
        desired.apply(Event::Snapshot(Vec::new()));
        places_are(&desired, &[]);
    }

    #[test]
    fn what_a_source_says_counts_more_than_a_sandbox() {
        let mut desired = Desired::new("file");
        desired.apply(Event::Snapshot(vec![workload("a")]));
        for container in ["n1", "n2"] {
            desired.hold(sandbox("a", container));
            let first = desired.workloads().next();
            assert_eq!(
                first.map(|workload| workload.policy.clone()),
                Some(Err("never".to_owned()))
            );
        }
        places_are(&desired, &[("a", "n2")]);
    }

    #[test]
    fn a_sandbox_goes_by_its_own_name_alone() {
        let mut desired = Desired::new("file");
        desired.apply(Event::Snapshot(vec![workload("a")]));
        desired.hold(sandbox("a", "old"));
        desired.hold(sandbox("a", "new"));
        desired.hold(sandbox("b", "other"));
        let keep_all_but = |gone: &'static str| move |name: &str| name != gone;
        desired.release(keep_all_but("old"));
        places_are(&desired, &[("a", "new"), ("b", "other")]);
        for _ in 0..2 {
            desired.release(keep_all_but("new"));
            places_are(&desired, &[("a", "-"), ("b", "other")]);
        }
        desired.release(|_| false);
        places_are(&desired, &[("a", "-")]);
    }
}
