//! The name of a pod that never changes and is never given to another.

use std::fmt;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::ResourceExt as _;

use crate::workload::WorkloadId;

/// The source's name.
pub(super) const NAME: &str = "kube";
/// What the kubelet calls a pod that it was given by a file: the API server's pod is a mirror of it,
/// with a uid of its own.
const STATIC_UID: &str = "kubernetes.io/config.hash";
/// The same in a mirror, and in no other pod: the API server takes it only when a pod is made, and the kubelet
/// deletes what is not a mirror of one of its own.
const MIRROR_OF: &str = "kubernetes.io/config.mirror";

/// What the API knows a pod by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodId {
    pub(super) namespace: String,
    pub(super) name: String,
    /// That of the API's pod, which of a static pod is not the kubelet's.
    pub(super) uid: String,
}

impl PodId {
    /// That of a pod; none if it is not from an API server.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        Some(Self {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            uid: pod.uid()?,
        })
    }

    /// That of a pod's workload; none if another source describes it.
    pub(super) fn of_workload(id: &WorkloadId) -> Option<Self> {
        let mut parts = id.key.splitn(3, '/').map(str::to_owned);
        Some(Self {
            namespace: parts.next().filter(|_| id.source == NAME)?,
            name: parts.next()?,
            uid: parts.next()?,
        })
    }

    /// As the id of a workload: people know a pod by its name, which another may have by now.
    pub(super) fn workload(&self) -> WorkloadId {
        WorkloadId {
            source: NAME,
            key: self.to_string(),
        }
    }

    /// As an Event names the pod that it is about.
    pub(super) fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.name, self.uid)
    }
}

/// The uid that the kubelet knows a pod by. Whoever writes a pod can write its annotations: none may name another
/// pod's cgroup, so only what a kubelet computes for a file counts, an MD5 sum
/// (`pkg/kubelet/config/common.go`); the API server's uids have dashes.
pub(super) fn kubelet_uid(pod: &Pod) -> Option<String> {
    let annotations = pod.annotations();
    let hash = annotations.get(STATIC_UID).filter(|hash| {
        annotations.get(MIRROR_OF) == Some(*hash)
            && hash.len() == 32
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    hash.cloned().or_else(|| pod.uid())
}
