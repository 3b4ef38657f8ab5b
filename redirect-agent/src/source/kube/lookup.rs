//! One pod, asked for by its name, and what is said of it: to whom it is a workload.

use std::{fmt, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _};
use redirect_user::config::NameFile;

use super::{
    injection::{NotOurs, decide},
    mesh::Mesh,
    pod_id::PodId,
    watch::answered,
};
use crate::{cgroup_ref::CgroupRef, workload::Workload};

/// What the kubelet calls a pod that it was given by a file: the API server's pod is a mirror of it,
/// with a uid of its own.
const STATIC_UID: &str = "kubernetes.io/config.hash";
/// The same in a mirror, and in no other pod: the API server takes it only when a pod is made, and the kubelet
/// deletes what is not a mirror of one of its own.
const MIRROR_OF: &str = "kubernetes.io/config.mirror";

/// Looks pods up, one by one.
#[derive(Clone)]
pub struct Lookup {
    client: Client,
    mesh: Mesh,
    groups: NameFile,
}

/// What there is of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A pod of the mesh.
    Ours(Box<Workload>),
    /// A pod that is never touched, and why.
    NotOurs(String),
    /// Another pod of this name: its uid.
    Another(String),
    /// No pod.
    Nothing,
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mesh = &self.mesh;
        f.debug_struct("Lookup")
            .field("mesh", mesh)
            .finish_non_exhaustive()
    }
}

impl Lookup {
    pub(super) fn new(client: Client, mesh: Mesh) -> Self {
        Self {
            client,
            mesh,
            groups: NameFile::groups(),
        }
    }

    /// Asks for a pod, by its name and the uid that the kubelet knows it by if that is known. The error says why the
    /// API server cannot be asked.
    pub async fn find(
        &self,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
        limit: Duration,
    ) -> Result<Found, String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let found = answered(pods.get_opt(name), limit).await;
        let Some(pod) = found.map_err(|failure| failure.to_string())? else {
            return Ok(Found::Nothing);
        };
        let known_as = kubelet_uid(&pod).unwrap_or_default();
        if uid.is_some_and(|uid| uid != known_as && Some(uid) != pod.uid().as_deref()) {
            return Ok(Found::Another(known_as));
        }
        Ok(match self.workload(&pod) {
            Some(Ok(workload)) => Found::Ours(Box::new(workload)),
            Some(Err(reason)) => Found::NotOurs(reason.to_string()),
            None => Found::Nothing,
        })
    }

    /// A pod as a workload, if it is ours; none if it has no uid, as only a pod that is not from an API
    /// server.
    pub(super) fn workload(&self, pod: &Pod) -> Option<Result<Workload, NotOurs>> {
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

/// The uid that the kubelet knows a pod by. Whoever writes a pod can write its annotations: none may name another
/// pod's cgroup, so only what a kubelet computes for a file counts, an MD5 sum
/// (`pkg/kubelet/config/common.go`); the API server's uids have dashes.
fn kubelet_uid(pod: &Pod) -> Option<String> {
    let annotations = pod.annotations();
    let hash = annotations.get(STATIC_UID).filter(|hash| {
        annotations.get(MIRROR_OF) == Some(*hash)
            && hash.len() == 32
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    hash.cloned().or_else(|| pod.uid())
}
