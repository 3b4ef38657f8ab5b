//! A watched folder: the texts of its files, without those that are being written.
//!
//! Inotify tells when to scan, and which files are being written. A scan reads the whole folder, so that a
//! lost event loses no change.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{
    inotify::InotifyWatch,
    texts::{FileReader, Texts},
};

/// A change counts once it has lasted this long: a file that is written in pieces is incomplete in between.
const SETTLE_TIME: Duration = Duration::from_millis(50);
/// A removal counts once it has lasted this long: editors move a file away before they write the new one.
const REMOVAL_DELAY: Duration = Duration::from_millis(300);
/// Interval between scans without an event: the folder may not exist, or its file system may report nothing.
const SCAN_INTERVAL: Duration = Duration::from_secs(2);

/// A folder, and the texts read from it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    watch: Option<InotifyWatch>,
    reader: FileReader,
    /// Texts that were returned last; `None` at first, and while the folder is unreadable.
    last_given: Option<Texts>,
    /// Texts that were read last, and the time since when they are the same.
    candidate: Option<(Texts, Instant)>,
    /// Missing files, and the time since when they are missing.
    missing: BTreeMap<String, Instant>,
    /// The error that was returned last.
    last_error: Option<String>,
    /// Time of the next scan.
    next_scan: Instant,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            watch: None,
            reader: FileReader::default(),
            last_given: None,
            candidate: None,
            missing: BTreeMap::new(),
            last_error: None,
            next_scan: Instant::now(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the texts differ from those returned last, or the folder becomes readable or unreadable.
    pub(super) async fn next_texts(&mut self) -> Result<Texts, String> {
        loop {
            self.wait().await;
            let now = Instant::now();
            match self.scan(now) {
                Ok(Some(texts)) => {
                    self.last_error = None;
                    self.missing.retain(|name, _| texts.contains_key(name));
                    self.last_given = Some(texts.clone());
                    return Ok(texts);
                }
                Ok(None) => {}
                Err(reason) => {
                    self.candidate = None;
                    self.last_given = None;
                    self.next_scan = now + SCAN_INTERVAL;
                    if self.last_error.as_ref() != Some(&reason) {
                        self.last_error = Some(reason.clone());
                        return Err(reason);
                    }
                }
            }
        }
    }

    /// Waits for inotify, or for the time of the next scan.
    async fn wait(&mut self) {
        let timer = sleep_until(self.next_scan);
        let Some(watch) = &mut self.watch else {
            timer.await;
            return;
        };
        tokio::select! {
            () = timer => {}
            () = watch.wait() => {}
        }
    }

    /// Reads all files; returns their texts if they are settled and new.
    fn scan(&mut self, now: Instant) -> Result<Option<Texts>, String> {
        self.renew_watch();
        let found = self.reader.read(&self.path, now)?;
        let texts = self.settled(found, now);
        self.next_scan = now + SCAN_INTERVAL;
        if self.last_given.as_ref() == Some(&texts) {
            self.candidate = None;
        } else {
            let since = match self.candidate.take() {
                Some((candidate, since)) if candidate == texts => since,
                _ => now,
            };
            if now.duration_since(since) >= SETTLE_TIME {
                return Ok(Some(texts));
            }
            self.candidate = Some((texts, since));
            self.next_scan = since + SETTLE_TIME;
        }
        let removals = self.missing.values().map(|since| *since + REMOVAL_DELAY);
        if let Some(first) = removals.filter(|at| *at > now).min() {
            self.next_scan = self.next_scan.min(first);
        }
        Ok(None)
    }

    /// The found texts, with the last returned text of each file that is being written or only just missing.
    fn settled(&mut self, mut found: Texts, now: Instant) -> Texts {
        let none = BTreeSet::new();
        let writing = match &mut self.watch {
            Some(watch) => {
                watch.writing.retain(|name| found.contains_key(name));
                &watch.writing
            }
            None => &none,
        };
        found.retain(|name, _| !writing.contains(name));
        self.missing.retain(|name, _| !found.contains_key(name));
        let Some(last_given) = &self.last_given else {
            return found;
        };
        for (name, text) in last_given {
            if found.contains_key(name) {
                continue;
            }
            // A renamed file is not a second one: of two files for one cgroup, neither can be used.
            let has_moved = || {
                let mut new = found
                    .iter()
                    .filter(|(name, _)| !last_given.contains_key(*name));
                text.is_ok() && new.any(|(_, new)| new == text)
            };
            let is_kept = writing.contains(name)
                || !has_moved() && {
                    let since = *self.missing.entry(name.clone()).or_insert(now);
                    now.duration_since(since) < REMOVAL_DELAY
                };
            if is_kept {
                found.insert(name.clone(), text.clone());
            }
        }
        found
    }

    /// Watches the folder that has the path now. Without inotify, scans have to suffice.
    fn renew_watch(&mut self) {
        if self.watch.is_none() {
            self.watch = InotifyWatch::new();
        }
        if let Some(watch) = &mut self.watch {
            watch.drain();
            watch.watch(&self.path);
        }
    }
}
