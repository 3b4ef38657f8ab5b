//! Keeping the addresses of what is attached current, beside the loop.

use std::{cell::Cell, path::Path, time::Duration};

use redirect_user::node::{self, FollowEvent, FollowEventKind, Scope};
use tokio::{sync::watch, time::timeout};
use tracing::{debug, error, info, warn};

/// Before it is followed again after that failed.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Keeps the addresses of what is attached current until it is told to stop; in a thread of its own
/// because it waits for locks.
pub(super) fn follow(state_dir: &Path, mut stopping: watch::Receiver<bool>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return error!(%error, "following addresses failed: start a runtime"),
    };
    runtime.block_on(async {
        // Told once for each reason, until it works again.
        let last_failure = Cell::new(None);
        loop {
            let log = |event: FollowEvent<'_>| {
                last_failure.take();
                log_event(&event);
            };
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                ended = node::follow(state_dir, Scope::All, log) => {
                    let reason = ended.err().map(|error| format!("{error:#}"));
                    if let Some(reason) = &reason && last_failure.take().as_ref() != Some(reason) {
                        warn!("following addresses failed, will retry: {reason}");
                    }
                    last_failure.set(reason);
                }
            }
            // Ends early when it is told to stop.
            drop(timeout(RETRY_DELAY, stopping.wait_for(|stopping| *stopping)).await);
        }
    });
}

fn log_event(event: &FollowEvent<'_>) {
    match event.kind {
        FollowEventKind::Changed(_) => info!("{event}"),
        FollowEventKind::Failed(_) => warn!("{event}"),
        FollowEventKind::Followed(_) | FollowEventKind::Unseen | FollowEventKind::Gone => {
            debug!("{event}");
        }
    }
}
