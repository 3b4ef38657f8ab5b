//! The desired state: the workloads that the source has described, and the sandboxes that the runtime has
//! announced.

use std::collections::BTreeMap;

use crate::{
    source::SourceEvent,
    workload::{Workload, WorkloadId},
};

/// The desired state.
#[derive(Debug)]
pub struct Desired {
    /// Name of the source.
    source: &'static str,
    /// Workloads of the source and its sandboxes; `None` before the first snapshot.
    workloads: Option<BTreeMap<WorkloadId, Workload>>,
    /// Why the source is unavailable, if it is.
    unavailable: Option<String>,
    sandboxes: BTreeMap<WorkloadId, SandboxState>,
}

/// A sandbox that a container runtime has made for a pod without a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Container id that the runtime has given the sandbox.
    pub container_id: String,
    /// The pod, in the network namespace of the sandbox.
    pub workload: Workload,
}

/// A sandbox, until the runtime or the source removes it.
#[derive(Debug)]
struct SandboxState {
    sandbox: Sandbox,
    /// Whether the source has described the pod. From then on the description takes precedence, but for the
    /// network namespace. Before, a snapshot without the pod does not remove it: the source may lag behind
    /// the runtime.
    is_described: bool,
}

impl Desired {
    /// The empty state of a source with this name.
    pub const fn new(source: &'static str) -> Self {
        Self {
            source,
            workloads: None,
            unavailable: None,
            sandboxes: BTreeMap::new(),
        }
    }

    /// Applies an event of the source.
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

    /// Adds a sandbox. A description of its pod by the source takes precedence.
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

    /// Removes the sandboxes whose container id does not satisfy `is_there`.
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

    /// Whether the source has sent a snapshot. Before that nothing may be detached, because no workload is
    /// known to be unwanted.
    pub const fn is_complete(&self) -> bool {
        self.workloads.is_some()
    }

    /// The workloads, by id.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.iter().flat_map(BTreeMap::values)
    }

    /// Name of the source.
    pub const fn source(&self) -> &'static str {
        self.source
    }

    /// Why the source is unavailable, if it is.
    pub fn unavailable(&self) -> Option<&str> {
        self.unavailable.as_deref()
    }
}

impl SandboxState {
    /// Adds the sandbox to a description of its pod.
    fn apply_to(&mut self, described: &mut Workload) {
        self.is_described = true;
        described.netns.clone_from(&self.sandbox.workload.netns);
    }

    /// Adds the sandbox to a snapshot. False if the snapshot means that the pod is gone.
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

    /// Keys of the workloads, with their network namespaces.
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
