//! The gates that a pod has to pass to be managed.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use redirect_user::config::parse_bool;

use crate::source::kube::{mesh::Mesh, sidecar::Sidecar};

/// Istio's label and annotation that ask for a sidecar, or refuse one.
pub(super) const INJECT: &str = "sidecar.istio.io/inject";
/// Annotation of a pod that was injected.
pub(super) const STATUS: &str = "sidecar.istio.io/status";
/// Istio's annotation with the mode of interception. `NONE` leaves a pod alone.
pub(super) const MODE: &str = "sidecar.istio.io/interceptionMode";
/// The beginnings of the usual names of runtime classes whose containers have a network stack, or a kernel, of their own.
/// No program on the node sees their connections.
const ISOLATED_CLASSES: [&str; 4] = ["gvisor", "runsc", "kata", "firecracker"];

/// Why a pod is skipped, and left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source::kube) enum SkipReason {
    /// The pod is in the node's network namespace.
    HostNetwork,
    /// The pod's namespace is excluded.
    Namespace,
    /// The pod has ended, and nothing in it runs.
    Ended,
    /// The pod's container `istio-init` writes iptables rules.
    Init,
    /// The pod's sidecar is not Envoy.
    DisabledEnvoy,
    /// The pod has no sidecar.
    NoProxy,
    /// The pod's proxy is of this kind, and not a sidecar.
    Proxy(String),
    /// The pod refuses a sidecar.
    NotInjected,
    /// The pod was not injected.
    NoStatus,
    /// The pod's mode of interception is `NONE`: its sidecar captures nothing.
    NoInterception,
    /// The pod's runtime class isolates its network stack.
    Isolated(String),
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
            Self::NoInterception => write!(f, "{MODE} is NONE"),
            Self::Isolated(class) => write!(
                f,
                "the containers of its runtime class {class} have a network stack of their own, which no program on the node sees"
            ),
        }
    }
}

/// The first gate that a pod fails, in the order of Istio's CNI plugin.
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
    // In shadow mode a pod keeps the rules of `istio-init`.
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
    if !annotations.contains_key(STATUS) {
        return Some(SkipReason::NoStatus);
    }
    if annotations.get(MODE).is_some_and(|mode| mode == "NONE") {
        return Some(SkipReason::NoInterception);
    }
    let class = spec.and_then(|spec| spec.runtime_class_name.as_ref())?;
    let is_isolated = ISOLATED_CLASSES.iter().any(|name| class.starts_with(name));
    is_isolated.then(|| SkipReason::Isolated(class.clone()))
}

/// Whether all containers of a pod have ended. The phase alone is not enough: it is also set for a node that
/// cannot be reached, whose containers may still run.
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
