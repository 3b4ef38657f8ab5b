//! The source of files: one workload for each file of a folder.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
};

use redirect_user::{config::NameFile, sys::netns::NetnsRef};

use super::{folder::Folder, spec, texts::Texts};
use crate::{
    cgroup_ref::CgroupRef,
    source::{Source, SourceEvent},
    workload::{Workload, WorkloadId},
};

/// Name of the source.
const NAME: &str = "file";

/// The source of a folder's files.
#[derive(Debug)]
pub struct FileSource {
    folder: Folder,
    translator: SpecTranslator,
    /// The workloads as they were described last; `None` before the first snapshot.
    described: Option<BTreeMap<String, Workload>>,
    /// The texts of these workloads.
    texts: Texts,
    queue: VecDeque<SourceEvent>,
}

/// Translates files to workloads, with the users and groups of this machine.
#[derive(Debug)]
struct SpecTranslator {
    users: NameFile,
    groups: NameFile,
}

impl FileSource {
    /// A source of this folder, which may be created later.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: Folder::new(folder),
            translator: SpecTranslator {
                users: NameFile::users(),
                groups: NameFile::groups(),
            },
            described: None,
            texts: Texts::new(),
            queue: VecDeque::new(),
        }
    }

    /// Queues events for the changes of the texts.
    fn update(&mut self, texts: Texts) {
        let Some(described) = &mut self.described else {
            let workloads: BTreeMap<_, _> = texts
                .iter()
                .map(|(key, text)| {
                    (
                        key.clone(),
                        self.translator.workload(&self.folder, key, text, None),
                    )
                })
                .collect();
            self.queue
                .push_back(SourceEvent::Snapshot(workloads.values().cloned().collect()));
            self.described = Some(workloads);
            self.texts = texts;
            return;
        };
        for (key, text) in &texts {
            if self.texts.get(key) == Some(text) {
                continue;
            }
            let before = described.get(key);
            let workload = self.translator.workload(&self.folder, key, text, before);
            if before != Some(&workload) {
                self.queue
                    .push_back(SourceEvent::Changed(Box::new(workload.clone())));
                described.insert(key.clone(), workload);
            }
        }
        // Removals come last: a renamed file is never without a workload.
        described.retain(|key, workload| {
            let is_there = texts.contains_key(key);
            if !is_there {
                self.queue
                    .push_back(SourceEvent::Removed(workload.id.clone()));
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

    async fn next(&mut self) -> SourceEvent {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return event;
            }
            match self.folder.next_texts().await {
                // Texts without changes mean that the folder is readable again.
                Ok(texts) => {
                    let queued = self.queue.len();
                    self.update(texts);
                    if self.queue.len() == queued
                        && let Some(described) = &self.described
                    {
                        return SourceEvent::Snapshot(described.values().cloned().collect());
                    }
                }
                Err(reason) => return SourceEvent::Unavailable(reason),
            }
        }
    }
}

impl SpecTranslator {
    /// The workload of a file. The workload of an invalid file has the location of the workload before, so
    /// that the claim on its cgroup stays known.
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
        let (location, policy) = match read {
            Ok(spec) => (
                Some((spec.cgroup.clone(), spec.netns.clone())),
                spec.policy(&self.users, &self.groups),
            ),
            Err(problem) => (None, Err(problem)),
        };
        let location = match (&policy, before) {
            (Err(_), Some(before)) => before
                .cgroup
                .clone()
                .map(|cgroup| (cgroup, before.netns.clone()))
                .or(location),
            _ => location,
        };
        let (cgroup, netns): (Option<CgroupRef>, Option<NetnsRef>) =
            location.map_or((None, None), |(cgroup, netns)| (Some(cgroup), netns));
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

/// Name of a file without its extension.
fn stem(path: &Path) -> String {
    PathBuf::from(path)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
