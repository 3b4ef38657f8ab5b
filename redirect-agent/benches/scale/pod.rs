//! A pod as an API server stores it: injected by Istio's webhook, with two containers and one that has ended.

use serde_json::{Value, json};

const POD: &str = include_str!("pod.json");

/// The annotation that is changed.
pub(crate) const EXCLUDED: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";

/// A pod on a node. The object is empty if the file is not JSON, which a check excludes.
pub(crate) fn of(node: &str, number: u32) -> Value {
    let mut pod: Value = serde_json::from_str(POD).unwrap_or_default();
    let name = format!("checkout-6f7c9d8b5d-{number:05}");
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["uid"] = json!(uid(number));
    pod["spec"]["nodeName"] = json!(node);
    pod
}

/// Uid of a pod.
pub(crate) fn uid(number: u32) -> String {
    format!("5f6cbb21-9a0e-4f3a-8d0b-{number:012x}")
}

/// Size of a pod in bytes: whole, without `managedFields`, and of its metadata without these.
pub(crate) fn sizes() -> [usize; 3] {
    let mut pod = of("worker-3", 0);
    let whole = pod.to_string().len();
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    [
        whole,
        pod.to_string().len(),
        pod["metadata"].to_string().len(),
    ]
}
