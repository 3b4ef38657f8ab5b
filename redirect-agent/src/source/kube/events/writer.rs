//! Writing Events, one after the other.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::warn;

use super::counts::{EventCounts, Fate};

/// For an answer to an Event.
const PATIENCE: Duration = Duration::from_secs(10);

/// An Event that is to be written.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) event: Box<Event>,
    /// Is told whether it was.
    pub(super) written: oneshot::Sender<bool>,
}

/// Writes one after the other. That it cannot is told once for each reason.
pub(super) async fn write_all(
    client: Client,
    mut letters: mpsc::Receiver<Letter>,
    counts: EventCounts,
) {
    let mut trouble = None;
    while let Some(Letter { event, written }) = letters.recv().await {
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let params = PostParams::default();
        let now = match timeout(PATIENCE, events.create(&params, &event)).await {
            Ok(Ok(_)) => None,
            Ok(Err(kube::Error::Api(status))) => {
                Some(format!("{} ({})", status.message, status.code))
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        if let Some(why) = &now
            && trouble.as_ref() != Some(why)
        {
            warn!("write an Event: {why}");
        }
        counts.add(if now.is_none() {
            Fate::Written
        } else {
            Fate::Failed
        });
        // Whoever waited for it may have ended.
        written.send(now.is_none()).unwrap_or_default();
        trouble = now;
    }
}
