//! A watched folder: the texts of its files, once nobody is in the middle of writing them.
//!
//! Inotify says when to look, and which files are being written; what is there is then read as a
//! whole, so that no event that was lost leaves it behind.

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

/// A change counts when it is still there after this long: half of what is written in pieces is
/// not a file.
const SETTLE_TIME: Duration = Duration::from_millis(50);
/// Editors move a file away before they write the new one.
const REMOVAL_DELAY: Duration = Duration::from_millis(300);
/// How often to look without being told: when the folder is not there, or its file system is not
/// one that tells.
const SCAN_INTERVAL: Duration = Duration::from_secs(2);

/// A folder and what was read in it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    watch: Option<InotifyWatch>,
    reader: FileReader,
    /// What was given out last; `None` at first and when the folder cannot be read.
    last_given: Option<Texts>,
    /// What was read last, and since when it is the same.
    candidate: Option<(Texts, Instant)>,
    /// Files that were there, and since when they are not.
    missing: BTreeMap<String, Instant>,
    /// The last reason given out for not being able to read it.
    last_error: Option<String>,
    /// When to look next.
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

    /// Waits until the texts are other than those given last, or until it is otherwise with the
    /// folder itself: an error says why it cannot be read.
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

    /// Until it is time to look, or inotify says so.
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

    /// Reads everything; gives it if it is to be given out.
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

    /// What was found, with what was given last in place of files that are being written or have only
    /// just gone.
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
            // Another name of it is no second file: of two for one cgroup, neither can be used.
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

    /// Watches whatever folder has the name now. Where inotify cannot be had, looking has to do.
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
