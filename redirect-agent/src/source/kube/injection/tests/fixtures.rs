//! Pods, and the decisions about them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use redirect_user::config::{
    Inbound, InboundMode, InboundPorts, Include, PortRange, RedirectConfig,
};
use serde_json::{Value, from_value, json};

use crate::{
    source::kube::{
        injection::{SkipReason, decide},
        mesh::Mesh,
    },
    workload::Policy,
};

/// A pod of the mesh, merged with `over` (RFC 7386).
pub(super) fn pod(over: &Value) -> Pod {
    let mut pod = json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "5f6c",
            "annotations": {"sidecar.istio.io/status": "{}"},
        },
        "spec": {
            "nodeName": "node",
            "containers": [{"name": "app"}, proxy(&json!({}))],
        },
        "status": {"phase": "Running"},
    });
    merge(&mut pod, over);
    strip(&mut pod);
    from_value(pod).unwrap()
}

pub(super) fn proxy(over: &Value) -> Value {
    let mut proxy = json!({"name": "istio-proxy", "args": ["proxy", "sidecar"]});
    merge(&mut proxy, over);
    proxy
}

pub(super) fn merge(into: &mut Value, over: &Value) {
    match (into, over) {
        (Value::Object(into), Value::Object(over)) => {
            for (key, value) in over {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, over) => *into = over.clone(),
    }
}

/// Removes keys that are `null`.
pub(super) fn strip(value: &mut Value) {
    if let Value::Object(object) = value {
        object.retain(|_, value| !value.is_null());
        object.values_mut().for_each(strip);
    }
}

pub(super) fn with_proxy(over: &Value) -> Value {
    json!({"spec": {"containers": [proxy(over)]}})
}

pub(super) fn with_variable(name: &str, value: &str) -> Value {
    with_proxy(&json!({"env": [{"name": name, "value": value}]}))
}

pub(super) fn annotated(annotations: &[(&str, &str)]) -> Value {
    let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
    json!({"metadata": {"annotations": annotations}})
}

const TRAFFIC: &str = "traffic.sidecar.istio.io/";

pub(super) fn traffic(name: &str, value: &str) -> Value {
    annotated(&[(&format!("{TRAFFIC}{name}"), value)])
}

pub(super) fn no_names(_name: &str) -> Option<u32> {
    None
}

pub(super) fn decided(over: &Value, mesh: &Mesh) -> Result<Result<Policy, String>, SkipReason> {
    decide(&pod(over), mesh, &no_names)
}

pub(super) fn policy(over: &Value) -> Policy {
    decided(over, &Mesh::default()).unwrap().unwrap()
}

pub(super) fn error(over: &Value) -> String {
    decided(over, &Mesh::default()).unwrap().unwrap_err()
}

pub(super) fn ports(ports: &[u16]) -> Vec<PortRange> {
    ports.iter().map(|port| PortRange::single(*port)).collect()
}

/// The configuration that Istio's CNI plugin installs for a pod without annotations (`basic.txt.golden` of
/// its tests).
pub(super) fn basic() -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        exclude_ports: ports(&[15020]),
        inbound: Inbound {
            mode: InboundMode::Redirect,
            include_ports: InboundPorts::Any,
            exclude_ports: vec![
                PortRange {
                    first: 15020,
                    last: 15021,
                },
                PortRange::single(15090),
            ],
        },
        ..RedirectConfig::default()
    }
}
