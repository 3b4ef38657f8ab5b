//! Events of the pods of a node.

use k8s_openapi::api::core::v1::Pod;

/// An event of the pods of a node.
#[derive(Debug)]
pub(in crate::source::kube) enum PodEvent {
    /// All pods were listed.
    Relisted(Vec<Pod>),
    /// A pod was created or changed.
    Applied(Box<Pod>),
    /// A pod was deleted.
    Deleted(Box<Pod>),
    /// The API server is unavailable, for this reason.
    Unavailable(String),
    /// The API server is available again, and has nothing new.
    Recovered,
}
