//! The decision about a pod: whether it is managed, and its policy, as Istio's CNI plugin decides.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use redirect_user::{
    config::{ConfigError, Flags, Names, Opt, Problem, parse_bool},
    policy::canonical,
};

use super::gates::{SkipReason, skip_reason};
use crate::{
    source::{
        kube::{
            annotation::{self, origin},
            before_proxy::BeforeProxy,
            mesh::Mesh,
            sidecar::Sidecar,
        },
        options,
    },
    workload::Policy,
};

/// User and group of the proxy, if its container has none.
const DEFAULT_ID: &str = "1337";

/// Decides about a pod. The outer error is why the pod is skipped; the inner one names the annotation and
/// value that cannot be used.
pub(in crate::source::kube) fn decide(
    pod: &Pod,
    mesh: &Mesh,
    groups: &impl Names,
) -> Result<Result<Policy, String>, SkipReason> {
    let sidecar = Sidecar::of(pod);
    let nothing = BTreeMap::new();
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&nothing);
    if let Some(reason) = skip_reason(pod, &sidecar, annotations, mesh) {
        return Err(reason);
    }
    let mut flags = mesh.flags.clone();
    let mut warnings = apply_variables(&sidecar.environment, &mut flags);
    for (option, own) in [(Opt::ProxyUid, sidecar.uid), (Opt::ProxyGid, sidecar.gid)] {
        match own {
            Some(id) => flags.set(option, id.to_string()),
            None => flags.set_default(option, DEFAULT_ID),
        }
    }
    Ok(annotation::apply(annotations, &mut flags)
        .and_then(|()| {
            options::resolved(&flags, groups)
                .map_err(|error| describe_problems(&error, annotations, &sidecar))
        })
        .and_then(|mut found| {
            let before_proxy = BeforeProxy::of_pod(annotations, mesh.before_proxy)?;
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

/// Applies the variables of the proxy to flags. Returns warnings about variables without effect.
fn apply_variables(variables: &BTreeMap<String, String>, flags: &mut Flags) -> Vec<String> {
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
        flags.switch(Opt::RedirectDns, is_on);
        flags.switch(Opt::CaptureAllDns, is_on);
    }
    if let Some(is_on) = switch("ISTIO_DUAL_STACK") {
        flags.switch(Opt::DualStack, is_on);
    }
    if switch("INVALID_DROP") == Some(true) {
        warnings.push(
            "INVALID_DROP of container istio-proxy has no effect: connections that are redirected at the socket never meet conntrack"
                .to_owned(),
        );
    }
    warnings
}

/// The problems of a configuration, by the names that a pod has for its settings.
fn describe_problems(
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
