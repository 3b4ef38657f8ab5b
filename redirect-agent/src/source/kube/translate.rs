//! The translation of pods to workloads.

use k8s_openapi::api::core::v1::Pod;
use redirect_user::config::NameFile;

use super::{
    injection::{SkipReason, decide},
    mesh::Mesh,
    pod_id::{PodId, kubelet_uid},
};
use crate::{cgroup_ref::CgroupRef, workload::Workload};

/// Translates pods to workloads.
#[derive(Clone, Debug)]
pub(super) struct Translator {
    mesh: Mesh,
    groups: NameFile,
}

impl Translator {
    pub(super) fn new(mesh: Mesh) -> Self {
        Self {
            mesh,
            groups: NameFile::groups(),
        }
    }

    /// Translates a pod to a workload, if the pod is managed. `None` if the pod has no uid, and so is not
    /// from an API server.
    pub(super) fn workload(&self, pod: &Pod) -> Option<Result<Workload, SkipReason>> {
        let id = PodId::of(pod)?;
        let known_as = kubelet_uid(pod)?;
        let described = |policy: Result<_, String>| Workload {
            id: id.workload(),
            name: format!("{}/{}", id.namespace, id.name),
            cgroup: Some(CgroupRef::Pod(known_as)),
            netns: None,
            policy: policy
                .map_err(|problem| format!("pod {}/{}: {problem}", id.namespace, id.name)),
        };
        Some(decide(pod, &self.mesh, &self.groups).map(described))
    }
}
