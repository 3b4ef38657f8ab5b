// SPDX-License-Identifier: MIT OR Apache-2.0
//! The routes of the API: pods and Events, by method and path.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that JSON does not have is made when it is written"
)]

use std::{convert::Infallible, sync::Arc};

use http_body_util::BodyExt as _;
use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use serde_json::{Value, json};

use crate::{
    list,
    query::Query,
    response::{Body, status, whole},
    shared::Shared,
    watch,
};

/// Answers one request.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let target = parts.uri.to_string();
    shared
        .cluster()
        .requests
        .push(format!("{} {target}", parts.method));
    shared.changed();
    let path = parts.uri.path();
    let query = Query(parts.uri.query().unwrap_or_default());
    let body = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or(Value::Null);
    Ok(match (&parts.method, path) {
        (&Method::GET, "/api/v1/pods") => {
            let Some(node) = query.get("fieldSelector").and_then(node) else {
                return Ok(status(
                    400,
                    "this server selects by spec.nodeName=NODE only",
                ));
            };
            if query.get("watch") == Some("true") {
                watch::answer(&shared, &query, node).await
            } else {
                list::answer(&shared, &query, node).await
            }
        }
        (&Method::GET, path) if pod_name(path).is_some() => {
            get_pod(&shared, &pod_name(path).unwrap_or_default())
        }
        (&Method::POST, path) if path.ends_with("/events") => create_event(&shared, path, body),
        (&Method::PATCH, path) if path.contains("/events/") => patch_event(&shared, path, &body),
        _ => status(404, "this server serves pods and Events only"),
    })
}

/// The pod that a path names, as `namespace/name`.
fn pod_name(path: &str) -> Option<String> {
    let path = path.strip_prefix("/api/v1/namespaces/")?;
    let (namespace, name) = path.split_once("/pods/")?;
    Some(format!("{namespace}/{name}"))
}

fn get_pod(shared: &Shared, name: &str) -> Response<Body> {
    let mut cluster = shared.cluster();
    if let Some(code) = cluster.get_statuses.pop_front() {
        return status(code, "as the script says");
    }
    match cluster.pods().get(name) {
        Some(pod) => whole(StatusCode::OK, pod),
        None => status(404, "no such pod"),
    }
}

/// The node that a field selector names; the selector is as encoded in a query.
fn node(selector: &str) -> Option<&str> {
    selector.strip_prefix("spec.nodeName%3D")
}

fn create_event(shared: &Shared, path: &str, mut event: Value) -> Response<Body> {
    let mut cluster = shared.cluster();
    let code = cluster.event_statuses.pop_front().unwrap_or(201);
    if code != 201 {
        return status(code, "as the script says");
    }
    event["path"] = json!(path);
    cluster.events.push(event.clone());
    drop(cluster);
    shared.changed();
    whole(StatusCode::CREATED, &event)
}

fn patch_event(shared: &Shared, path: &str, change: &Value) -> Response<Body> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut cluster = shared.cluster();
    let mut events = cluster.events.iter_mut();
    let patched = events
        .find(|event| event["metadata"]["name"] == name)
        .map(|event| {
            for (key, value) in change.as_object().into_iter().flatten() {
                event[key] = value.clone();
            }
            event.clone()
        });
    drop(cluster);
    patched.map_or_else(
        || status(404, "no such Event"),
        |event| whole(StatusCode::OK, &event),
    )
}
