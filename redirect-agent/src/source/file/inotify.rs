//! An inotify watch of a folder.

use std::{collections::BTreeSet, mem, path::Path};

use futures_util::{FutureExt as _, StreamExt as _};
use inotify::{Event, EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};

/// An inotify watch of a folder, and the files that are being written.
#[derive(Debug)]
pub(super) struct InotifyWatch {
    events: EventStream<Vec<u8>>,
    /// The watched folder: another one may have its path by now.
    folder: Option<WatchDescriptor>,
    /// Files that were modified, and not closed yet.
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

    /// Watches the folder at this path. Watching the same folder again changes nothing.
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
                // The watch ends with its folder.
                watches.remove(old).unwrap_or_default();
            }
            self.writing.clear();
        }
    }

    /// Waits for an event, and records it.
    pub(super) async fn wait(&mut self) {
        if let Some(Ok(event)) = self.events.next().await {
            self.record(event);
        }
        self.drain();
    }

    /// Records the events that are pending.
    pub(super) fn drain(&mut self) {
        while let Some(Some(Ok(event))) = self.events.next().now_or_never() {
            self.record(event);
        }
    }

    /// Records that a file is being written, or no longer.
    fn record(&mut self, event: EventOwned) {
        let Event { wd, mask, name, .. } = event;
        if mask.contains(EventMask::Q_OVERFLOW) {
            // The lost events may have been those of closed files.
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
