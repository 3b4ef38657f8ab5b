//! Workloads described by the files of a folder, one each.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
};

use redirect_user::{config::NameFile, sys::netns::NetnsRef};

use super::{folder::Folder, spec, texts::Texts};
use crate::{
    cgroup_ref::CgroupRef,
    source::{Event, Source},
    workload::{Workload, WorkloadId},
};

/// The source's name.
const NAME: &str = "file";

/// The folder's files as workloads.
#[derive(Debug)]
pub struct FileSource {
    folder: Folder,
    reader: SpecReader,
    /// The workloads as they were said to be; none before the first snapshot.
    said: Option<BTreeMap<String, Workload>>,
    /// The texts they were made of.
    texts: Texts,
    to_say: VecDeque<Event>,
}

/// Who has which id on this machine.
#[derive(Debug)]
struct SpecReader {
    users: NameFile,
    groups: NameFile,
}

impl FileSource {
    /// Watches a folder, which may come into being later.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: Folder::new(folder),
            reader: SpecReader {
                users: NameFile::users(),
                groups: NameFile::groups(),
            },
            said: None,
            texts: Texts::new(),
            to_say: VecDeque::new(),
        }
    }

    /// Queues what is different in these texts.
    fn take(&mut self, texts: Texts) {
        let Some(said) = &mut self.said else {
            let workloads: BTreeMap<_, _> = texts
                .iter()
                .map(|(key, text)| {
                    (
                        key.clone(),
                        self.reader.workload(&self.folder, key, text, None),
                    )
                })
                .collect();
            self.to_say
                .push_back(Event::Snapshot(workloads.values().cloned().collect()));
            self.said = Some(workloads);
            self.texts = texts;
            return;
        };
        for (key, text) in &texts {
            if self.texts.get(key) == Some(text) {
                continue;
            }
            let before = said.get(key);
            let workload = self.reader.workload(&self.folder, key, text, before);
            if before != Some(&workload) {
                self.to_say
                    .push_back(Event::Changed(Box::new(workload.clone())));
                said.insert(key.clone(), workload);
            }
        }
        // Last: what has only another name now is never without one.
        said.retain(|key, workload| {
            let is_there = texts.contains_key(key);
            if !is_there {
                self.to_say.push_back(Event::Removed(workload.id.clone()));
            }
            is_there
        });
        self.texts = texts;
    }
}

impl Source for FileSource {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.to_say.pop_front() {
                return event;
            }
            match self.folder.changed().await {
                // Also an empty change: it says that the folder is there again.
                Ok(texts) => {
                    let was_said = self.to_say.len();
                    self.take(texts);
                    if self.to_say.len() == was_said
                        && let Some(said) = &self.said
                    {
                        return Event::Snapshot(said.values().cloned().collect());
                    }
                }
                Err(reason) => return Event::Unavailable(reason),
            }
        }
    }
}

impl SpecReader {
    /// The workload of a file. What is wrong with it is named, and where it runs is then what was
    /// known `before`, so that it is known whose policy stays.
    fn workload(
        &self,
        folder: &Folder,
        key: &str,
        text: &Result<Arc<str>, String>,
        before: Option<&Workload>,
    ) -> Workload {
        let path = folder.path().join(key);
        let read = text
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|text| spec::parse(text));
        let (place, policy) = match read {
            Ok(spec) => (
                Some((spec.cgroup.clone(), spec.netns.clone())),
                spec.policy(&self.users, &self.groups),
            ),
            Err(problem) => (None, Err(problem)),
        };
        let place = match (&policy, before) {
            (Err(_), Some(before)) => before
                .cgroup
                .clone()
                .map(|cgroup| (cgroup, before.netns.clone()))
                .or(place),
            _ => place,
        };
        let (cgroup, netns): (Option<CgroupRef>, Option<NetnsRef>) =
            place.map_or((None, None), |(cgroup, netns)| (Some(cgroup), netns));
        Workload {
            id: WorkloadId {
                source: NAME,
                key: key.to_owned(),
            },
            name: stem(&path),
            cgroup,
            netns,
            policy: policy.map_err(|problem| format!("\"{}\": {problem}", path.display())),
        }
    }
}

/// A file's name without what says how it is written.
fn stem(path: &Path) -> String {
    PathBuf::from(path)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
