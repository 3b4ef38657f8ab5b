// SPDX-License-Identifier: MIT OR Apache-2.0
//! A list, whole or in pages.
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
    answer::{Body, cut, status, stream, whole},
    cluster::{Cluster, Happening, OnList},
    query::Query,
    shared::Shared,
};

/// Answers a list.
pub(crate) async fn answer(shared: &Shared, query: &Query<'_>, node: &str) -> Response<Body> {
    let rest = query.get("continue");
    let mut after: Option<Happening> = None;
    let answer = {
        let mut cluster = shared.cluster();
        let (version, pods) = match rest {
            Some(token) => match cluster.rests.remove(token) {
                Some(rest) => rest,
                None => return status(410, "the provided continue parameter is too old"),
            },
            None => (cluster.version(), cluster.on_node(node)),
        };
        let scripted = if rest.is_some() {
            Some(OnList::Paged(2))
        } else {
            cluster.lists.pop_front()
        };
        let (size, is_kept) = match scripted {
            None => (usize::MAX, true),
            Some(OnList::Status(code)) => return status(code, "as the script says"),
            Some(OnList::Paged(size)) => (size, true),
            Some(OnList::Between(size, act)) => {
                after = Some(act);
                (size, true)
            }
            Some(OnList::Forgotten(size)) => (size, false),
            Some(OnList::Silence) => (0, true),
            Some(OnList::Cut) => {
                let half = Ok(Frame::data(Bytes::from_static(b"{\"kind\": \"PodLi")));
                return stream(futures_util::stream::iter([half, Err(cut())]));
            }
        };
        if size == 0 {
            None
        } else {
            Some(page(&mut cluster, version, pods, size, is_kept))
        }
    };
    let Some(answer) = answer else {
        return future::pending().await;
    };
    if let Some(act) = after {
        act(&mut shared.cluster());
        shared.changed();
    }
    whole(StatusCode::OK, &answer)
}

fn page(
    cluster: &mut Cluster,
    version: u64,
    mut pods: Vec<Value>,
    size: usize,
    is_kept: bool,
) -> Value {
    let rest = pods.split_off(size.min(pods.len()));
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if !rest.is_empty() {
        let token = format!("{version}-{}", rest.len());
        metadata["continue"] = json!(token);
        if is_kept {
            cluster.rests.insert(token, (version, rest));
        }
    }
    json!({"apiVersion": "v1", "kind": "PodList", "metadata": metadata, "items": pods})
}
