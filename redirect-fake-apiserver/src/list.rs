// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answer to a list, whole or in pages.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that JSON does not have is made when it is written"
)]

use std::future;

use hyper::{
    Response, StatusCode,
    body::{Bytes, Frame},
};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, ClusterChange, ListAnswer},
    query::Query,
    response::{Body, disconnect, status, stream, whole},
    shared::Shared,
};

/// Answers a list of a node's pods, as the script says.
pub(crate) async fn answer(shared: &Shared, query: &Query<'_>, node: &str) -> Response<Body> {
    let token = query.get("continue");
    let mut after: Option<ClusterChange> = None;
    let answer = {
        let mut cluster = shared.cluster();
        let (version, pods) = match token {
            Some(token) => match cluster.remainders.remove(token) {
                Some(remainder) => remainder,
                None => return status(410, "the provided continue parameter is too old"),
            },
            None => (cluster.resource_version(), cluster.on_node(node)),
        };
        let scripted = if token.is_some() {
            Some(ListAnswer::Paged(2))
        } else {
            cluster.list_answers.pop_front()
        };
        let (size, is_continued) = match scripted {
            None => (usize::MAX, true),
            Some(ListAnswer::Status(code)) => return status(code, "as the script says"),
            Some(ListAnswer::Paged(size)) => (size, true),
            Some(ListAnswer::PagedWithChange(size, change)) => {
                after = Some(change);
                (size, true)
            }
            Some(ListAnswer::ExpiredContinue(size)) => (size, false),
            Some(ListAnswer::Hang) => (0, true),
            Some(ListAnswer::Disconnect) => {
                let half = Ok(Frame::data(Bytes::from_static(b"{\"kind\": \"PodLi")));
                return stream(futures_util::stream::iter([half, Err(disconnect())]));
            }
        };
        if size == 0 {
            None
        } else {
            Some(page(&mut cluster, version, pods, size, is_continued))
        }
    };
    let Some(answer) = answer else {
        return future::pending().await;
    };
    if let Some(change) = after {
        change(&mut shared.cluster());
        shared.changed();
    }
    whole(StatusCode::OK, &answer)
}

/// Makes a page of at most `size` pods. Unless `is_continued`, its `continue` token is refused later.
fn page(
    cluster: &mut Cluster,
    version: u64,
    mut pods: Vec<Value>,
    size: usize,
    is_continued: bool,
) -> Value {
    let remainder = pods.split_off(size.min(pods.len()));
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if !remainder.is_empty() {
        let token = format!("{version}-{}", remainder.len());
        metadata["continue"] = json!(token);
        if is_continued {
            cluster.remainders.insert(token, (version, remainder));
        }
    }
    json!({"apiVersion": "v1", "kind": "PodList", "metadata": metadata, "items": pods})
}
