//! Whether a pod is ours, and how it is redirected then: as Istio's CNI plugin decides it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use redirect_user::{
    config::{ConfigError, Flags, Names, Opt, Problem, parse_bool},
    policy::canonical,
};

use crate::{
    source::{
        kube::{
            annotation::{self, origin},
            mesh::Mesh,
            sidecar::Sidecar,
        },
        options,
    },
    workload::Policy,
};

/// Istio's label and annotation that say whether a pod wants a sidecar.
pub(super) const INJECT: &str = "sidecar.istio.io/inject";
/// The annotation of a pod that was given one.
pub(super) const STATUS: &str = "sidecar.istio.io/status";
/// The proxy's user and group where its container names none.
const DEFAULT_ID: &str = "1337";

/// Why a pod is none of ours: it is never touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source::kube) enum NotOurs {
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

impl fmt::Display for NotOurs {
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

/// How a pod of ours is redirected; what is wrong with that names annotation and value.
pub(in crate::source::kube) fn decide(
    pod: &Pod,
    mesh: &Mesh,
    groups: &impl Names,
) -> Result<Result<Policy, String>, NotOurs> {
    let sidecar = Sidecar::of(pod);
    let nothing = BTreeMap::new();
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&nothing);
    if let Some(reason) = not_ours(pod, &sidecar, annotations, mesh) {
        return Err(reason);
    }
    let mut flags = mesh.flags.clone();
    let mut warnings = environment(&sidecar.environment, &mut flags);
    flags.proxy_uid = id(sidecar.uid, flags.proxy_uid);
    flags.proxy_gid = id(sidecar.gid, flags.proxy_gid);
    Ok(annotation::apply(annotations, &mut flags)
        .and_then(|()| {
            options::resolved(&flags, groups)
                .map_err(|error| explain(&error, annotations, &sidecar))
        })
        .and_then(|mut found| {
            let before_proxy = annotation::before_proxy(annotations, mesh.before_proxy)?;
            found.config.shadow = mesh.shadow;
            let shared = |config| {
                canonical(&config)
                    .map(Arc::new)
                    .map_err(|error| error.to_string())
            };
            let until_proxy = before_proxy.config(&found.config);
            warnings.extend(found.warnings);
            Ok(Policy {
                until_proxy: until_proxy.map(shared).transpose()?,
                config: shared(found.config)?,
                warnings,
            })
        }))
}

/// The first gate that a pod does not pass. The order is that of Istio's CNI plugin.
fn not_ours(
    pod: &Pod,
    sidecar: &Sidecar,
    annotations: &BTreeMap<String, String>,
    mesh: &Mesh,
) -> Option<NotOurs> {
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.host_network) == Some(true) {
        return Some(NotOurs::HostNetwork);
    }
    let namespace = pod.metadata.namespace.as_ref();
    if namespace.is_some_and(|name| mesh.excluded_namespaces.contains(name)) {
        return Some(NotOurs::Namespace);
    }
    if has_ended(pod) {
        return Some(NotOurs::Ended);
    }
    // A rehearsal is beside its rules.
    if sidecar.has_init && !mesh.shadow {
        return Some(NotOurs::Init);
    }
    let variable = |name| sidecar.environment.get(name).map(String::as_str);
    if variable("DISABLE_ENVOY").and_then(parse_bool) == Some(true) {
        return Some(NotOurs::DisabledEnvoy);
    }
    if !sidecar.is_there {
        return Some(NotOurs::NoProxy);
    }
    if let Some(kind) = sidecar.kind.as_ref()
        && !matches!(kind.as_str(), "" | "sidecar")
    {
        return Some(NotOurs::Proxy(kind.clone()));
    }
    let labels = pod.metadata.labels.as_ref();
    let label = labels.and_then(|labels| labels.get(INJECT));
    let inject = label.or_else(|| annotations.get(INJECT));
    if inject.and_then(|value| parse_bool(value)) == Some(false) {
        return Some(NotOurs::NotInjected);
    }
    (!annotations.contains_key(STATUS)).then_some(NotOurs::NoStatus)
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

/// Takes in the proxy's variables; the warnings are about those that have no effect.
fn environment(variables: &BTreeMap<String, String>, flags: &mut Flags) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut switch = |name: &str| {
        let text = variables.get(name)?;
        let value = parse_bool(text);
        if value.is_none() {
            let text = text.escape_debug();
            warnings.push(format!(
                "{name} \"{text}\" of container istio-proxy counts as false: write true or false"
            ));
        }
        Some(value.unwrap_or(false))
    };
    if let Some(is_on) = switch("ISTIO_META_DNS_CAPTURE") {
        flags.redirect_dns = Some(is_on);
        flags.capture_all_dns = Some(is_on);
    }
    if let Some(is_on) = switch("ISTIO_DUAL_STACK") {
        flags.dual_stack = Some(is_on);
    }
    if switch("INVALID_DROP") == Some(true) {
        warnings.push(
            "INVALID_DROP of container istio-proxy has no effect: what is redirected at the socket never meets conntrack"
                .to_owned(),
        );
    }
    warnings
}

/// The id of the proxy's container; else that of the mesh; else Istio's.
fn id(own: Option<i64>, mesh: Option<String>) -> Option<String> {
    let own = own.map(|id| id.to_string());
    own.or(mesh).or_else(|| Some(DEFAULT_ID.to_owned()))
}

/// What is wrong, by the names that a pod has for it.
fn explain(
    error: &ConfigError,
    annotations: &BTreeMap<String, String>,
    sidecar: &Sidecar,
) -> String {
    let problems = error.problems.iter().map(|problem| {
        let (option, why) = match problem {
            Problem::Syntax { option, cause, .. } => (option, cause.to_string()),
            Problem::Refused {
                option,
                reason,
                remedy,
                ..
            } => (option, format!("{reason}: {remedy}")),
        };
        if let Some((annotation, value)) = origin(annotations, option) {
            return annotation.problem(value, &why);
        }
        let own = [
            (Opt::ProxyUid, sidecar.uid, "runAsUser"),
            (Opt::ProxyGid, sidecar.gid, "runAsGroup"),
        ];
        let mut own = own.into_iter();
        let own = own.find(|(id, value, _)| id.name() == *option && value.is_some());
        own.map_or_else(
            || format!("defaults of the mesh: {problem}"),
            |(.., field)| format!("container istio-proxy: {field}: {why}"),
        )
    });
    problems.collect::<Vec<_>>().join("; ")
}
