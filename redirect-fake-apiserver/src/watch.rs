// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answer to a watch: the events since a version, and each later one as it happens.

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
    cluster::WatchAnswer,
    query::Query,
    response::{Body, disconnect, failure, status, stream as response_stream},
    shared::Shared,
};

/// Answers a watch of a node's pods, as the script says.
pub(crate) async fn answer(shared: &Arc<Shared>, query: &Query<'_>, node: &str) -> Response<Body> {
    let number = |name| query.get(name)?.parse::<u64>().ok();
    let (Some(version), Some(seconds)) = (number("resourceVersion"), number("timeoutSeconds"))
    else {
        return status(400, "resourceVersion or timeoutSeconds is missing");
    };
    let scripted = shared.cluster().watch_answers.pop_front();
    let mut first = Vec::new();
    match scripted {
        None | Some(WatchAnswer::Duplicate | WatchAnswer::Disconnect) => {}
        Some(WatchAnswer::Status(code)) => return status(code, "as the script says"),
        Some(WatchAnswer::ErrorEvent(code)) => {
            let error = json!({"type": "ERROR", "object": failure(code, "as the script says")});
            first.push(format!("{error}\n"));
        }
        Some(WatchAnswer::MalformedEvent) => {
            first.push("{\"type\": \"ADDED\", \"object\": 7}\n".to_owned());
        }
        Some(WatchAnswer::Close) => return response_stream(stream::empty()),
        Some(WatchAnswer::Hang) => future::pending().await,
    }
    if shared.cluster().events_since(version, node).is_none() {
        let error = json!({"type": "ERROR", "object": failure(410, "too old resource version")});
        first.push(format!("{error}\n"));
    }
    let events = Events {
        changes: shared.changes(),
        shared: Arc::clone(shared),
        node: node.to_owned(),
        version,
        end: Instant::now() + Duration::from_secs(seconds),
        scripted,
    };
    let first = stream::iter(first.into_iter().map(|text| Ok(frame(text))));
    response_stream(first.chain(events.frames()))
}

type FrameResult = Result<Frame<Bytes>, std::io::Error>;

fn frame(text: String) -> Frame<Bytes> {
    Frame::data(Bytes::from(text))
}

/// The events of one watch, from its version on.
struct Events {
    shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
    node: String,
    /// The version of the last event that was sent.
    version: u64,
    /// The end of `timeoutSeconds`.
    end: Instant,
    scripted: Option<WatchAnswer>,
}

impl Events {
    fn frames(self) -> impl futures_util::Stream<Item = FrameResult> {
        stream::unfold(Some(self), |events| async move {
            let mut events = events?;
            let text = events.next().await?;
            if matches!(events.scripted, Some(WatchAnswer::Disconnect)) {
                // The other half is never sent: the next frame is an error.
                events.scripted = None;
                let half = text.get(..text.len() / 2).unwrap_or_default().to_owned();
                let frames = stream::iter([Ok(frame(half)), Err(disconnect())]);
                return Some((frames.left_stream(), None));
            }
            let frames = stream::iter([Ok(frame(text))]);
            Some((frames.right_stream(), Some(events)))
        })
        .flatten()
    }

    /// Waits for the next events, and returns them as lines; `None` at the end of the watch.
    async fn next(&mut self) -> Option<String> {
        let times = if matches!(self.scripted, Some(WatchAnswer::Duplicate)) {
            2
        } else {
            1
        };
        loop {
            self.changes.borrow_and_update();
            let events = self.shared.cluster().events_since(self.version, &self.node);
            let lines: Vec<_> = events
                .into_iter()
                .flatten()
                .map(|event| {
                    self.version = event.resource_version;
                    event.line().repeat(times)
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
