//! Which pods are none of ours.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use redirect_user::config::parse_bool;

use crate::source::kube::{mesh::Mesh, sidecar::Sidecar};

/// Istio's label and annotation that say whether a pod wants a sidecar.
pub(super) const INJECT: &str = "sidecar.istio.io/inject";
/// The annotation of a pod that was given one.
pub(super) const STATUS: &str = "sidecar.istio.io/status";
/// Why a pod is none of ours: it is never touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source::kube) enum SkipReason {
    /// It is in the node's network namespace.
    HostNetwork,
    /// Its namespace is excluded.
    Namespace,
    /// It has ended, and nothing in it runs.
    Ended,
    /// `istio-init` writes iptables rules in it.
    Init,
    /// Its sidecar is not Envoy.
    DisabledEnvoy,
    /// It has no sidecar.
    NoProxy,
    /// Its proxy is not a sidecar: this.
    Proxy(String),
    /// It wants no sidecar.
    NotInjected,
    /// It was not given one.
    NoStatus,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostNetwork => f.write_str("it uses the node's network"),
            Self::Namespace => f.write_str("its namespace is excluded"),
            Self::Ended => f.write_str("it has ended"),
            Self::Init => f.write_str("its container istio-init writes iptables rules"),
            Self::DisabledEnvoy => f.write_str("DISABLE_ENVOY is set on its istio-proxy"),
            Self::NoProxy => f.write_str("it has no container istio-proxy"),
            Self::Proxy(kind) => write!(f, "its proxy is a {kind}, not a sidecar"),
            Self::NotInjected => write!(f, "{INJECT} is false"),
            Self::NoStatus => write!(f, "it has no annotation {STATUS}"),
        }
    }
}

/// The first gate that a pod does not pass. The order is that of Istio's CNI plugin.
pub(super) fn skip_reason(
    pod: &Pod,
    sidecar: &Sidecar,
    annotations: &BTreeMap<String, String>,
    mesh: &Mesh,
) -> Option<SkipReason> {
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.host_network) == Some(true) {
        return Some(SkipReason::HostNetwork);
    }
    let namespace = pod.metadata.namespace.as_ref();
    if namespace.is_some_and(|name| mesh.excluded_namespaces.contains(name)) {
        return Some(SkipReason::Namespace);
    }
    if has_ended(pod) {
        return Some(SkipReason::Ended);
    }
    // A rehearsal is beside its rules.
    if sidecar.has_init && !mesh.shadow {
        return Some(SkipReason::Init);
    }
    let variable = |name| sidecar.environment.get(name).map(String::as_str);
    if variable("DISABLE_ENVOY").and_then(parse_bool) == Some(true) {
        return Some(SkipReason::DisabledEnvoy);
    }
    if !sidecar.is_there {
        return Some(SkipReason::NoProxy);
    }
    if let Some(kind) = sidecar.kind.as_ref()
        && !matches!(kind.as_str(), "" | "sidecar")
    {
        return Some(SkipReason::Proxy(kind.clone()));
    }
    let labels = pod.metadata.labels.as_ref();
    let label = labels.and_then(|labels| labels.get(INJECT));
    let inject = label.or_else(|| annotations.get(INJECT));
    if inject.and_then(|value| parse_bool(value)) == Some(false) {
        return Some(SkipReason::NotInjected);
    }
    (!annotations.contains_key(STATUS)).then_some(SkipReason::NoStatus)
}

/// Whether all that was in it has ended. The phase alone does not tell: it is also set for a node
/// that cannot be reached, where everything may go on.
fn has_ended(pod: &Pod) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    let is_running = |container: &ContainerStatus| {
        let state = container.state.as_ref();
        state.is_some_and(|state| state.running.is_some())
    };
    let mut containers = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ]
    .into_iter()
    .flatten()
    .flatten();
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) && !containers.any(is_running)
}
