//! The lookup of one pod by its name.

use std::{fmt, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _};

use super::{failure::with_timeout, mesh::Mesh, pod_id::kubelet_uid, translate::Translator};
use crate::workload::Workload;

/// Looks pods up by name.
#[derive(Clone)]
pub struct PodLookup {
    client: Client,
    translator: Translator,
}

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupResult {
    /// A pod of the mesh.
    Managed(Box<Workload>),
    /// A pod that is left alone, and the reason.
    Skipped(String),
    /// A pod of that name with this other uid.
    UidMismatch(String),
    /// No pod of that name.
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
    /// A lookup with this client, and these defaults for pods.
    pub fn new(client: Client, mesh: Mesh) -> Self {
        Self {
            client,
            translator: Translator::new(mesh),
        }
    }

    /// Looks a pod up by its name, and by its uid if the runtime passes that. The error says why the API
    /// server is unavailable.
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
