//! Tests of the gates.

use serde_json::{Value, json};

use super::fixtures::{annotated, decided, merge, proxy, with_proxy, with_variable};
use crate::source::kube::{
    injection::gates::{INJECT, MODE, STATUS, SkipReason},
    mesh::Mesh,
};

#[test]
fn every_gate_skips_its_pods() {
    let label = |value| json!({"metadata": {"labels": {(INJECT): value}}});
    let both = |label: &str, annotation: &str| {
        let mut over = annotated(&[(INJECT, annotation)]);
        merge(
            &mut over,
            &json!({"metadata": {"labels": {(INJECT): label}}}),
        );
        over
    };
    let with_init = json!({"spec": {"initContainers": [{"name": "istio-init"}]}});
    let native = json!({"spec": {
        "containers": [{"name": "app"}],
        "initContainers": [{"name": "istio-validation"}, proxy(&json!({"restartPolicy": "Always"}))],
    }});
    let ended = |phase: &str, app: &Value| {
        json!({"status": {"phase": phase, "containerStatuses": [{
            "name": "app", "state": app,
            "image": "", "imageID": "", "ready": false, "restartCount": 0,
        }]}})
    };
    let terminated = json!({"terminated": {"exitCode": 0}});
    let kind = |kind: &str| with_proxy(&json!({"args": ["proxy", kind]}));
    for (over, expected) in [
        (json!({}), None),
        (
            json!({"spec": {"hostNetwork": true}}),
            Some(SkipReason::HostNetwork),
        ),
        (json!({"spec": {"hostNetwork": false}}), None),
        (
            json!({"metadata": {"namespace": "kube-system"}}),
            Some(SkipReason::Namespace),
        ),
        (ended("Succeeded", &terminated), Some(SkipReason::Ended)),
        (ended("Failed", &terminated), Some(SkipReason::Ended)),
        (ended("Failed", &json!({"running": {}})), None),
        (ended("Running", &terminated), None),
        (with_init, Some(SkipReason::Init)),
        (
            with_variable("DISABLE_ENVOY", "true"),
            Some(SkipReason::DisabledEnvoy),
        ),
        (
            with_variable("DISABLE_ENVOY", "T"),
            Some(SkipReason::DisabledEnvoy),
        ),
        (with_variable("DISABLE_ENVOY", "false"), None),
        (with_variable("DISABLE_ENVOY", "yes"), None),
        (
            json!({"spec": {"containers": [{"name": "app"}]}}),
            Some(SkipReason::NoProxy),
        ),
        (native, None),
        (kind("sidecar"), None),
        (kind(""), None),
        (kind("router"), Some(SkipReason::Proxy("router".to_owned()))),
        (label("false"), Some(SkipReason::NotInjected)),
        (label("0"), Some(SkipReason::NotInjected)),
        (label("true"), None),
        (
            annotated(&[(MODE, "NONE")]),
            Some(SkipReason::NoInterception),
        ),
        (annotated(&[(MODE, "TPROXY")]), None),
        (
            json!({"spec": {"runtimeClassName": "kata-qemu"}}),
            Some(SkipReason::Isolated("kata-qemu".to_owned())),
        ),
        (json!({"spec": {"runtimeClassName": "crun"}}), None),
        (label("off"), None),
        (
            annotated(&[(INJECT, "false")]),
            Some(SkipReason::NotInjected),
        ),
        (annotated(&[(INJECT, "no")]), None),
        (both("true", "false"), None),
        (both("", "false"), None),
        (both("false", "true"), Some(SkipReason::NotInjected)),
        (
            json!({"metadata": {"annotations": {(STATUS): null}}}),
            Some(SkipReason::NoStatus),
        ),
        (
            json!({"metadata": {"annotations": null}}),
            Some(SkipReason::NoStatus),
        ),
        (annotated(&[(STATUS, "")]), None),
    ] {
        let found = decided(&over, &Mesh::default());
        assert_eq!(found.as_ref().err(), expected.as_ref(), "{over}");
        assert!(!matches!(found, Ok(Err(_))), "{over}: {found:?}");
    }
}

#[test]
fn the_reason_is_the_first_gate_that_a_pod_fails() {
    let mut over = json!({
        "metadata": {"annotations": null, "labels": {(INJECT): "false"}},
        "spec": {
            "containers": [proxy(&json!({
                "args": ["proxy", "router"],
                "env": [{"name": "DISABLE_ENVOY", "value": "true"}],
            }))],
            "initContainers": [{"name": "istio-init"}],
        },
    });
    let reasons = [
        (SkipReason::Init, json!({"spec": {"initContainers": null}})),
        (
            SkipReason::DisabledEnvoy,
            json!({"spec": {"containers": [proxy(&json!({"args": ["proxy", "router"]}))]}}),
        ),
        (
            SkipReason::Proxy("router".to_owned()),
            json!({"spec": {"containers": [proxy(&json!({}))]}}),
        ),
        (
            SkipReason::NotInjected,
            json!({"metadata": {"labels": {(INJECT): null}}}),
        ),
        (SkipReason::NoStatus, json!({})),
    ];
    for (reason, remedy) in reasons {
        assert_eq!(decided(&over, &Mesh::default()), Err(reason));
        merge(&mut over, &remedy);
    }
}

#[test]
fn shadow_mode_includes_pods_with_istio_init() {
    let mesh = Mesh {
        shadow: true,
        ..Mesh::default()
    };
    let with_init = json!({"spec": {"initContainers": [{"name": "istio-init"}]}});
    let policy = decided(&with_init, &mesh).unwrap().unwrap();
    assert!(policy.config.shadow);
    assert_eq!(decided(&with_init, &Mesh::default()), Err(SkipReason::Init));
}
