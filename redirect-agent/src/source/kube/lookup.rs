//! One pod, asked for by its name, and what is said of it: to whom it is a workload.

use std::{fmt, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _};

use super::{failure::with_timeout, mesh::Mesh, pod_id::kubelet_uid, translate::Translator};
use crate::workload::Workload;

/// Looks pods up, one by one.
#[derive(Clone)]
pub struct PodLookup {
    client: Client,
    translator: Translator,
}

/// What there is of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupResult {
    /// A pod of the mesh.
    Managed(Box<Workload>),
    /// A pod that is never touched, and why.
    Skipped(String),
    /// Another pod of this name: its uid.
    UidMismatch(String),
    /// No pod.
    NotFound,
}

impl fmt::Debug for PodLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodLookup")
            .field("translator", &self.translator)
            .finish_non_exhaustive()
    }
}

impl PodLookup {
    /// Asks by this client.
    pub fn new(client: Client, mesh: Mesh) -> Self {
        Self {
            client,
            translator: Translator::new(mesh),
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
    ) -> Result<LookupResult, String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let found = with_timeout(pods.get_opt(name), limit).await;
        let Some(pod) = found.map_err(|failure| failure.to_string())? else {
            return Ok(LookupResult::NotFound);
        };
        let known_as = kubelet_uid(&pod).unwrap_or_default();
        if uid.is_some_and(|uid| uid != known_as && Some(uid) != pod.uid().as_deref()) {
            return Ok(LookupResult::UidMismatch(known_as));
        }
        Ok(match self.translator.workload(&pod) {
            Some(Ok(workload)) => LookupResult::Managed(Box::new(workload)),
            Some(Err(reason)) => LookupResult::Skipped(reason.to_string()),
            None => LookupResult::NotFound,
        })
    }
}
