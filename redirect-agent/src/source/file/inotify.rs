//! What inotify tells of a folder.

use std::{collections::BTreeSet, mem, path::Path};

use futures_util::{FutureExt as _, StreamExt as _};
use inotify::{Event, EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};

/// What inotify knows.
#[derive(Debug)]
pub(super) struct InotifyWatch {
    events: EventStream<Vec<u8>>,
    /// The folder that is watched: another one may have its name by now.
    folder: Option<WatchDescriptor>,
    /// Files that somebody has begun to write, and has not closed.
    pub(super) writing: BTreeSet<String>,
}

impl InotifyWatch {
    pub(super) fn new() -> Option<Self> {
        let inotify = Inotify::init().ok()?;
        Some(Self {
            events: inotify.into_event_stream(vec![0; 4096]).ok()?,
            folder: None,
            writing: BTreeSet::new(),
        })
    }

    /// Watches a folder; the same again changes nothing.
    pub(super) fn watch(&mut self, folder: &Path) {
        let events = WatchMask::CREATE
            | WatchMask::MODIFY
            | WatchMask::ATTRIB
            | WatchMask::CLOSE_WRITE
            | WatchMask::MOVE
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let mut watches = self.events.watches();
        let now = watches.add(folder, events).ok();
        if now != self.folder {
            if let Some(old) = mem::replace(&mut self.folder, now) {
                // It is gone already if its folder is.
                watches.remove(old).unwrap_or_default();
            }
            self.writing.clear();
        }
    }

    /// Waits for news, and takes them in.
    pub(super) async fn wait(&mut self) {
        if let Some(Ok(event)) = self.events.next().await {
            self.record(event);
        }
        self.drain();
    }

    /// Takes in what there is to know by now.
    pub(super) fn drain(&mut self) {
        while let Some(Some(Ok(event))) = self.events.next().now_or_never() {
            self.record(event);
        }
    }

    /// Takes in who writes what.
    fn record(&mut self, event: EventOwned) {
        let Event { wd, mask, name, .. } = event;
        if mask.contains(EventMask::Q_OVERFLOW) {
            // Who is still writing is not known any more.
            self.writing.clear();
        }
        let (true, Some(name)) = (Some(wd) == self.folder, name) else {
            return;
        };
        let name = name.to_string_lossy().into_owned();
        let closed = EventMask::CLOSE_WRITE
            | EventMask::MOVED_TO
            | EventMask::MOVED_FROM
            | EventMask::DELETE;
        if mask.contains(EventMask::MODIFY) {
            self.writing.insert(name);
        } else if mask.intersects(closed) {
            self.writing.remove(&name);
        }
    }
}
