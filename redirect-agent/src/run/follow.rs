//! The address follower: keeps the addresses of attached pods current, beside the control loop.

use std::{cell::Cell, path::Path, time::Duration};

use redirect_user::node::{self, FollowEvent, FollowEventKind, Scope};
use tokio::{sync::watch, time::timeout};
use tracing::{debug, error, info, warn};

/// Pause after a failure to follow.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Follows addresses until the agent is stopped. Runs on a thread of its own, because it blocks on locks.
pub(super) fn follow(state_dir: &Path, mut stopping: watch::Receiver<bool>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return error!(%error, "following addresses failed: start a runtime"),
    };
    runtime.block_on(async {
        // The reason of the last failure, so that each is logged once.
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
            // The pause ends early when the agent is stopped.
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
