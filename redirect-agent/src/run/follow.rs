//! Keeping the addresses of what is attached current, beside the loop.

use std::{cell::Cell, path::Path, time::Duration};

use redirect_user::node::{self, FollowEvent, FollowEventKind, Scope};
use tokio::{sync::watch, time::timeout};
use tracing::{debug, error, info, warn};

/// Before it is followed again after that failed.
const PAUSE: Duration = Duration::from_secs(5);

/// Keeps the addresses of what is attached current until it is told to stop; in a thread of its own
/// because it waits for locks.
pub(super) fn follow(owner: &Path, mut stopping: watch::Receiver<bool>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return error!(%error, "addresses are not followed: start a runtime"),
    };
    runtime.block_on(async {
        // Told once for each reason, until it works again.
        let told = Cell::new(None);
        loop {
            let told_of = |event: FollowEvent<'_>| {
                told.take();
                tell(&event);
            };
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                ended = node::follow(owner, Scope::All, told_of) => {
                    let reason = ended.err().map(|error| format!("{error:#}"));
                    if let Some(reason) = &reason && told.take().as_ref() != Some(reason) {
                        warn!("addresses are not followed for the time being: {reason}");
                    }
                    told.set(reason);
                }
            }
            // Ends early when it is told to stop.
            drop(timeout(PAUSE, stopping.wait_for(|stopping| *stopping)).await);
        }
    });
}

fn tell(event: &FollowEvent<'_>) {
    match event.kind {
        FollowEventKind::Changed(_) => info!("{event}"),
        FollowEventKind::Failed(_) => warn!("{event}"),
        FollowEventKind::Followed(_) | FollowEventKind::Unseen | FollowEventKind::Gone => {
            debug!("{event}")
        }
    }
}
