//! The permanent id of a pod, which no other pod ever has.

use std::fmt;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::ResourceExt as _;

use crate::workload::WorkloadId;

/// Name of the source.
pub(super) const NAME: &str = "kube";
/// Annotation with the kubelet's uid of a static pod: the API server's pod is a mirror of it, with another
/// uid.
const STATIC_UID: &str = "kubernetes.io/config.hash";
/// Annotation with the same value, which only mirror pods have: the API server accepts it only when a pod is
/// created, and the kubelet deletes pods that mirror none of its own.
const MIRROR_OF: &str = "kubernetes.io/config.mirror";

/// Namespace, name and uid of a pod in the API.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodId {
    pub(super) namespace: String,
    pub(super) name: String,
    /// The API's uid, which a static pod's kubelet does not use.
    pub(super) uid: String,
}

impl PodId {
    /// The id of a pod; `None` if the pod has no uid, and so is not from an API server.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        Some(Self {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            uid: pod.uid()?,
        })
    }

    /// The id of a workload's pod; `None` if another source describes the workload.
    pub(super) fn of_workload(id: &WorkloadId) -> Option<Self> {
        let mut parts = id.key.splitn(3, '/').map(str::to_owned);
        Some(Self {
            namespace: parts.next().filter(|_| id.source == NAME)?,
            name: parts.next()?,
            uid: parts.next()?,
        })
    }

    /// The id as that of a workload. A name alone may be another pod's by now.
    pub(super) fn workload(&self) -> WorkloadId {
        WorkloadId {
            source: NAME,
            key: self.to_string(),
        }
    }

    /// The reference to the pod in an Event.
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

/// The uid that the kubelet knows a pod by. Users can write the annotations of their pods, and must not name
/// another pod's cgroup. So only a value that a kubelet computes for a file counts, an MD5 sum
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
