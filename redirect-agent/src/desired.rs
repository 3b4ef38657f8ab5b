//! What the source wants, as far as it has said.

use std::collections::BTreeMap;

use crate::{
    source::SourceEvent,
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
    unavailable: Option<String>,
    sandboxes: BTreeMap<WorkloadId, SandboxState>,
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
struct SandboxState {
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
            unavailable: None,
            sandboxes: BTreeMap::new(),
        }
    }

    /// Takes in what the source says.
    pub fn apply(&mut self, event: SourceEvent) {
        self.unavailable = None;
        match event {
            SourceEvent::Snapshot(all) => {
                let by_id = all
                    .into_iter()
                    .map(|workload| (workload.id.clone(), workload));
                let mut by_id: BTreeMap<_, _> = by_id.collect();
                self.sandboxes
                    .retain(|_, state| state.apply_to_snapshot(&mut by_id));
                self.workloads = Some(by_id);
            }
            SourceEvent::Changed(mut workload) => {
                if let Some(workloads) = &mut self.workloads {
                    if let Some(state) = self.sandboxes.get_mut(&workload.id) {
                        state.apply_to(&mut workload);
                    }
                    workloads.insert(workload.id.clone(), *workload);
                }
            }
            SourceEvent::Removed(id) => {
                if let Some(workloads) = &mut self.workloads {
                    workloads.remove(&id);
                    self.sandboxes.remove(&id);
                }
            }
            SourceEvent::Unavailable(reason) => self.unavailable = Some(reason),
        }
    }

    /// There is a sandbox. What its source has said of the pod, if anything, counts more.
    pub fn add_sandbox(&mut self, sandbox: Sandbox) {
        let id = sandbox.workload.id.clone();
        let before = self.sandboxes.remove(&id);
        let known = self.workloads.as_mut();
        let described = known.as_ref().and_then(|workloads| workloads.get(&id));
        let mut state = SandboxState {
            is_described: before.map_or(described.is_some(), |before| before.is_described),
            sandbox,
        };
        if let Some(workloads) = known {
            match workloads.get_mut(&id) {
                Some(described) if state.is_described => state.apply_to(described),
                _ => drop(workloads.insert(id.clone(), state.sandbox.workload.clone())),
            }
        }
        self.sandboxes.insert(id, state);
    }

    /// Sandboxes are gone, by the names of those that there are.
    pub fn retain_sandboxes(&mut self, is_there: impl Fn(&str) -> bool) {
        let known = &mut self.workloads;
        self.sandboxes.retain(|id, state| {
            if is_there(&state.sandbox.container_id) {
                return true;
            }
            if let Some(workloads) = known {
                match workloads.get_mut(id) {
                    Some(described) if state.is_described => described.netns = None,
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
    pub fn unavailable(&self) -> Option<&str> {
        self.unavailable.as_deref()
    }
}

impl SandboxState {
    /// Adds to what a source says.
    fn apply_to(&mut self, described: &mut Workload) {
        self.is_described = true;
        described.netns.clone_from(&self.sandbox.workload.netns);
    }

    /// Adds to all that a source says; false if that means that the pod is gone.
    fn apply_to_snapshot(&mut self, described: &mut BTreeMap<WorkloadId, Workload>) -> bool {
        let workload = &self.sandbox.workload;
        match described.get_mut(&workload.id) {
            Some(described) => self.apply_to(described),
            None if self.is_described => return false,
            None => drop(described.insert(workload.id.clone(), workload.clone())),
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
    fn a_snapshot_replaces_and_unavailability_changes_nothing() {
        let mut desired = Desired::new("file");
        assert!(!desired.is_complete());
        desired.apply(SourceEvent::Unavailable("gone".to_owned()));
        assert_eq!(desired.unavailable(), Some("gone"));
        assert!(!desired.is_complete(), "it has said nothing");
        desired.apply(SourceEvent::Snapshot(vec![workload("a"), workload("b")]));
        assert!(desired.is_complete());
        desired.apply(SourceEvent::Removed(workload("a").id));
        desired.apply(SourceEvent::Changed(Box::new(workload("c"))));
        assert_eq!(keys(&desired), ["b", "c"]);
        desired.apply(SourceEvent::Unavailable("gone".to_owned()));
        assert_eq!(keys(&desired), ["b", "c"]);
        desired.apply(SourceEvent::Snapshot(vec![workload("d")]));
        assert_eq!(keys(&desired), ["d"]);
        assert_eq!(desired.unavailable(), None);
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
    fn netns_by_key(desired: &Desired) -> Vec<(&str, String)> {
        let workloads = desired.workloads();
        workloads
            .map(|workload| {
                let netns = workload.netns.as_ref();
                let netns = netns.map_or_else(|| "-".to_owned(), ToString::to_string);
                (workload.id.key.as_str(), netns)
            })
            .collect()
    }

    fn check_netns(desired: &Desired, expected: &[(&str, &str)]) {
        let netns_by_key = netns_by_key(desired);
        let netns_by_key: Vec<_> = netns_by_key
            .iter()
            .map(|(key, netns)| (*key, &**netns))
            .collect();
        assert_eq!(netns_by_key, expected);
    }

    #[test]
    fn a_sandbox_waits_for_its_source_and_is_removed_with_the_pod() {
        let mut desired = Desired::new("file");
        desired.add_sandbox(sandbox("a", "n1"));
        assert!(!desired.is_complete(), "a sandbox is no snapshot");
        desired.apply(SourceEvent::Snapshot(vec![workload("b")]));
        check_netns(&desired, &[("a", "n1"), ("b", "-")]);
        desired.apply(SourceEvent::Snapshot(Vec::new()));
        check_netns(&desired, &[("a", "n1")]);
        desired.add_sandbox(sandbox("a", "n2"));
        desired.apply(SourceEvent::Snapshot(Vec::new()));
        check_netns(&desired, &[("a", "n2")]);
        desired.apply(SourceEvent::Changed(Box::new(workload("a"))));
        check_netns(&desired, &[("a", "n2")]);
        desired.apply(SourceEvent::Snapshot(Vec::new()));
        check_netns(&desired, &[]);
        desired.add_sandbox(sandbox("a", "n3"));
        desired.apply(SourceEvent::Removed(workload("a").id));
        check_netns(&desired, &[]);
        desired.apply(SourceEvent::Snapshot(Vec::new()));
        check_netns(&desired, &[]);
    }

    #[test]
    fn a_description_takes_precedence_over_a_sandbox() {
        let mut desired = Desired::new("file");
        desired.apply(SourceEvent::Snapshot(vec![workload("a")]));
        for container in ["n1", "n2"] {
            desired.add_sandbox(sandbox("a", container));
            let first = desired.workloads().next();
            assert_eq!(
                first.map(|workload| workload.policy.clone()),
                Some(Err("never".to_owned()))
            );
        }
        check_netns(&desired, &[("a", "n2")]);
    }

    #[test]
    fn a_sandbox_is_removed_only_by_its_own_container_id() {
        let mut desired = Desired::new("file");
        desired.apply(SourceEvent::Snapshot(vec![workload("a")]));
        desired.add_sandbox(sandbox("a", "old"));
        desired.add_sandbox(sandbox("a", "new"));
        desired.add_sandbox(sandbox("b", "other"));
        let keep_all_but = |gone: &'static str| move |name: &str| name != gone;
        desired.retain_sandboxes(keep_all_but("old"));
        check_netns(&desired, &[("a", "new"), ("b", "other")]);
        for _ in 0..2 {
            desired.retain_sandboxes(keep_all_but("new"));
            check_netns(&desired, &[("a", "-"), ("b", "other")]);
        }
        desired.retain_sandboxes(|_| false);
        check_netns(&desired, &[("a", "-")]);
    }
}
