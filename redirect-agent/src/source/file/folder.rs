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
    inotify::Watch,
    texts::{Files, Texts},
};

/// A change counts when it is still there after this long: half of what is written in pieces is
/// not a file.
const SETTLE: Duration = Duration::from_millis(50);
/// Editors move a file away before they write the new one.
const GONE: Duration = Duration::from_millis(300);
/// How often to look without being told: when the folder is not there, or its file system is not
/// one that tells.
const LOOK: Duration = Duration::from_secs(2);

/// A folder and what was read in it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    watch: Option<Watch>,
    files: Files,
    /// What was given out last; `None` at first and when the folder cannot be read.
    given: Option<Texts>,
    /// What was read last, and since when it is the same.
    read: Option<(Texts, Instant)>,
    /// Files that were there, and since when they are not.
    missing: BTreeMap<String, Instant>,
    /// The last reason given out for not being able to read it.
    trouble: Option<String>,
    /// When to look next.
    next: Instant,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            watch: None,
            files: Files::default(),
            given: None,
            read: None,
            missing: BTreeMap::new(),
            trouble: None,
            next: Instant::now(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the texts are other than those given last, or until it is otherwise with the
    /// folder itself: an error says why it cannot be read.
    pub(super) async fn changed(&mut self) -> Result<Texts, String> {
        loop {
            self.wait().await;
            let now = Instant::now();
            match self.look(now) {
                Ok(Some(texts)) => {
                    self.trouble = None;
                    self.missing.retain(|name, _| texts.contains_key(name));
                    self.given = Some(texts.clone());
                    return Ok(texts);
                }
                Ok(None) => {}
                Err(reason) => {
                    self.read = None;
                    self.given = None;
                    self.next = now + LOOK;
                    if self.trouble.as_ref() != Some(&reason) {
                        self.trouble = Some(reason.clone());
                        return Err(reason);
                    }
                }
            }
        }
    }

    /// Until it is time to look, or inotify says so.
    async fn wait(&mut self) {
        let timer = sleep_until(self.next);
        let Some(watch) = &mut self.watch else {
            timer.await;
            return;
        };
        tokio::select! {
            () = timer => {}
            () = watch.told() => {}
        }
    }

    /// Reads everything; gives it if it is to be given out.
    fn look(&mut self, now: Instant) -> Result<Option<Texts>, String> {
        self.watch_again();
        let found = self.files.read(&self.path, now)?;
        let texts = self.settled(found, now);
        self.next = now + LOOK;
        if self.given.as_ref() == Some(&texts) {
            self.read = None;
        } else {
            let since = match self.read.take() {
                Some((read, since)) if read == texts => since,
                _ => now,
            };
            if now.duration_since(since) >= SETTLE {
                return Ok(Some(texts));
            }
            self.read = Some((texts, since));
            self.next = since + SETTLE;
        }
        let judged = self.missing.values().map(|since| *since + GONE);
        if let Some(first) = judged.filter(|at| *at > now).min() {
            self.next = self.next.min(first);
        }
        Ok(None)
    }

    /// What was found, with what was given last in place of files that are being written or have only
    /// just gone.
    fn settled(&mut self, mut found: Texts, now: Instant) -> Texts {
        let nobody = BTreeSet::new();
        let writing = match &mut self.watch {
            Some(watch) => {
                watch.writing.retain(|name| found.contains_key(name));
                &watch.writing
            }
            None => &nobody,
        };
        found.retain(|name, _| !writing.contains(name));
        self.missing.retain(|name, _| !found.contains_key(name));
        let Some(given) = &self.given else {
            return found;
        };
        for (name, text) in given {
            if found.contains_key(name) {
                continue;
            }
            // Another name of it is no second file: of two for one cgroup, neither can be used.
            let has_moved = || {
                let mut new = found.iter().filter(|(name, _)| !given.contains_key(*name));
                text.is_ok() && new.any(|(_, new)| new == text)
            };
            let is_kept = writing.contains(name)
                || !has_moved() && {
                    let since = *self.missing.entry(name.clone()).or_insert(now);
                    now.duration_since(since) < GONE
                };
            if is_kept {
                found.insert(name.clone(), text.clone());
            }
        }
        found
    }

    /// Watches whatever folder has the name now. Where inotify cannot be had, looking has to do.
    fn watch_again(&mut self) {
        if self.watch.is_none() {
            self.watch = Watch::new();
        }
        if let Some(watch) = &mut self.watch {
            watch.drain();
            watch.point_at(&self.path);
        }
    }
}
