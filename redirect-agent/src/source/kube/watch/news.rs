//! What the API server says of pods.

use k8s_openapi::api::core::v1::Pod;

/// What the API server says.
#[derive(Debug)]
pub(in crate::source::kube) enum News {
    /// These are all there are.
    All(Vec<Pod>),
    /// There is a pod, or it is another now.
    Changed(Box<Pod>),
    /// A pod is there no more.
    Gone(Box<Pod>),
    /// It cannot be asked, and why.
    Trouble(String),
    /// It can be asked again, and has nothing new.
    Back,
}
