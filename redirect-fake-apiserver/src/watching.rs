// SPDX-License-Identifier: MIT OR Apache-2.0
//! A watch: what has happened since a version, and what happens from then on.

use std::{future, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use hyper::{
    Response,
    body::{Bytes, Frame},
};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    answer::{Body, cut, failure, status, stream as in_pieces},
    cluster::OnWatch,
    query::Query,
    shared::Shared,
};

/// Answers a watch.
pub(crate) async fn answer(shared: &Arc<Shared>, query: &Query<'_>, node: &str) -> Response<Body> {
    let number = |name| query.get(name)?.parse::<u64>().ok();
    let (Some(version), Some(seconds)) = (number("resourceVersion"), number("timeoutSeconds"))
    else {
        return status(400, "resourceVersion or timeoutSeconds is missing");
    };
    let scripted = shared.cluster().watches.pop_front();
    let mut first = Vec::new();
    match scripted {
        None | Some(OnWatch::Twice | OnWatch::Cut) => {}
        Some(OnWatch::Status(code)) => return status(code, "as the script says"),
        Some(OnWatch::Error(code)) => {
            let error = json!({"type": "ERROR", "object": failure(code, "as the script says")});
            first.push(format!("{error}\n"));
        }
        Some(OnWatch::Garbage) => first.push("{\"type\": \"ADDED\", \"object\": 7}\n".to_owned()),
        Some(OnWatch::Close) => return in_pieces(stream::empty()),
        Some(OnWatch::Silence) => future::pending().await,
    }
    if shared.cluster().since(version, node).is_none() {
        let error = json!({"type": "ERROR", "object": failure(410, "too old resource version")});
        first.push(format!("{error}\n"));
    }
    let watching = Watching {
        changes: shared.changes(),
        shared: Arc::clone(shared),
        node: node.to_owned(),
        version,
        end: Instant::now() + Duration::from_secs(seconds),
        scripted,
    };
    let first = stream::iter(first.into_iter().map(|text| Ok(piece(text))));
    in_pieces(first.chain(watching.pieces()))
}

type Piece = Result<Frame<Bytes>, std::io::Error>;

fn piece(text: String) -> Frame<Bytes> {
    Frame::data(Bytes::from(text))
}

struct Watching {
    shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
    node: String,
    version: u64,
    end: Instant,
    scripted: Option<OnWatch>,
}

impl Watching {
    fn pieces(self) -> impl futures_util::Stream<Item = Piece> {
        stream::unfold(Some(self), |watching| async move {
            let mut watching = watching?;
            let text = watching.next().await?;
            if matches!(watching.scripted, Some(OnWatch::Cut)) {
                // The rest never comes: the next piece is an error.
                watching.scripted = None;
                let half = text.get(..text.len() / 2).unwrap_or_default().to_owned();
                let pieces = stream::iter([Ok(piece(half)), Err(cut())]);
                return Some((pieces.left_stream(), None));
            }
            let pieces = stream::iter([Ok(piece(text))]);
            Some((pieces.right_stream(), Some(watching)))
        })
        .flatten()
    }

    /// What happens next, in lines; `None` when its time is over.
    async fn next(&mut self) -> Option<String> {
        let times = if matches!(self.scripted, Some(OnWatch::Twice)) {
            2
        } else {
            1
        };
        loop {
            self.changes.borrow_and_update();
            let past = self.shared.cluster().since(self.version, &self.node);
            let lines: Vec<_> = past
                .into_iter()
                .flatten()
                .map(|happened| {
                    self.version = happened.version;
                    happened.line().repeat(times)
                })
                .collect();
            if !lines.is_empty() {
                return Some(lines.concat());
            }
            match timeout_at(self.end, self.changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return None,
            }
        }
    }
}
