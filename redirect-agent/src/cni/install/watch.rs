//! Keeping the plugin installed: the network's own installer replaces its list when it starts, and on a new
//! node only then.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchMask};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use super::installer::{CniDirs, Entry, install};

/// Interval between checks without a change: failures are retried, also where directories cannot be watched.
const RECHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Installs the plugin whenever it is missing, until SIGTERM or SIGINT. The plugin stays installed. Failures
/// are logged once for each reason.
pub fn watch(dirs: &CniDirs, plugin: &Path, entry: &Entry) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    runtime.block_on(install_until_stopped(dirs, plugin, entry))
}

async fn install_until_stopped(dirs: &CniDirs, plugin: &Path, entry: &Entry) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut trouble = None;
    let mut changes = None;
    loop {
        // The watch begins before the check, so that no change is missed.
        if changes.is_none() {
            changes = watch_dir(&dirs.conf);
        }
        trouble = match install(dirs, plugin, entry) {
            Ok(done) => {
                for change in done {
                    info!("{} {}", change.verb, change.path.display());
                }
                None
            }
            Err(error) => {
                let why = format!("{error:#}");
                if trouble.as_ref() != Some(&why) {
                    warn!("{why}");
                }
                Some(why)
            }
        };
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = sleep_until(Instant::now() + RECHECK_INTERVAL) => {}
            is_there = next(&mut changes), if changes.is_some() => if !is_there {
                changes = None;
            },
        }
    }
}

/// Changes of the files in a directory; `None` if it does not exist.
fn watch_dir(dir: &Path) -> Option<EventStream<[u8; 4096]>> {
    let inotify = Inotify::init().ok()?;
    let mask = WatchMask::CLOSE_WRITE
        | WatchMask::MOVE
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF;
    inotify.watches().add(dir, mask).ok()?;
    inotify.into_event_stream([0; 4096]).ok()
}

/// Waits for a change. False if the directory is gone.
async fn next(changes: &mut Option<EventStream<[u8; 4096]>>) -> bool {
    let Some(stream) = changes else {
        return false;
    };
    let gone = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED;
    let event = stream.next().await;
    event.is_some_and(|event| event.is_ok_and(|event| !event.mask.intersects(gone)))
}
