//! Keeping the addresses of what is attached current, beside the loop.

use std::{cell::Cell, path::Path, time::Duration};

use redirect_user::node::{self, Event as News, Scope};
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
            let tell = |news: node::News<'_>| {
                told.take();
                tell_news(&news);
            };
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                ended = node::follow(owner, Scope::All, tell) => {
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

fn tell_news(news: &node::News<'_>) {
    match news.event {
        News::Changed(_) => info!("{news}"),
        News::Failed(_) => warn!("{news}"),
        News::Followed(_) | News::Unseen | News::Gone => debug!("{news}"),
    }
}
