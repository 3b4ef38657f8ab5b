//! The writer of Events, one after the other.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::warn;

use super::counts::{EventCounts, EventResult};

/// Time limit for a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// An Event in the queue.
#[derive(Debug)]
pub(super) struct QueuedEvent {
    pub(super) event: Box<Event>,
    /// Receives whether the Event was written.
    pub(super) written: oneshot::Sender<bool>,
}

/// Writes queued Events. Failures are logged once for each reason.
pub(super) async fn write_all(
    client: Client,
    mut queue: mpsc::Receiver<QueuedEvent>,
    counts: EventCounts,
) {
    let mut last_failure = None;
    while let Some(QueuedEvent { event, written }) = queue.recv().await {
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let params = PostParams::default();
        let now = match timeout(RESPONSE_TIMEOUT, events.create(&params, &event)).await {
            Ok(Ok(_)) => None,
            Ok(Err(kube::Error::Api(status))) => {
                Some(format!("{} ({})", status.message, status.code))
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", RESPONSE_TIMEOUT.as_secs())),
        };
        if let Some(why) = &now
            && last_failure.as_ref() != Some(why)
        {
            warn!("writing an Event failed: {why}");
        }
        counts.add(if now.is_none() {
            EventResult::Written
        } else {
            EventResult::Failed
        });
        // The reporter may have ended.
        written.send(now.is_none()).unwrap_or_default();
        last_failure = now;
    }
}
