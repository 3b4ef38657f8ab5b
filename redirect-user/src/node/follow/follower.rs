//! The follower: watches the network namespaces of attached pods, and refreshes the pods of a
//! namespace that has changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::{
    event::{FollowEvent, FollowEventKind},
    followed_pod::FollowedPod,
    scope::Scope,
};
use crate::{
    node::{AddressChange, Pod, Reader, Writer},
    sys::{
        cgroup::{self, Cgroup, CgroupId},
        netns::{NetnsHandle, NetnsId, NetnsRef, NetnsSnapshot, Watch},
    },
};

/// Fails at once if the pod can never be followed.
pub(super) fn check(state_dir: &Path, cgroup: &Cgroup, netns: Option<&NetnsRef>) -> Result<()> {
    let reader = Reader::open(state_dir)?
        .with_context(|| format!("open \"{}\": nothing is attached", state_dir.display()))?;
    let pod = reader.pod(cgroup.id(), cgroup.path())?;
    netns.map_or(Ok(()), |name| {
        check_cookie(name.open()?.cookie()?, name, &pod)
    })
}

fn check_cookie(cookie: u64, name: &NetnsRef, pod: &Pod) -> Result<()> {
    if cookie != pod.row.netns {
        bail!("follow network namespace \"{name}\": the pod was attached with another one");
    }
    Ok(())
}

/// The result of a refresh for each pod.
type Refreshed = Vec<(CgroupId, Result<AddressChange>)>;

/// A watched network namespace.
struct WatchedNetns {
    netns: NetnsHandle,
    cookie: u64,
    watch: Watch,
}

/// The followed pods, and the network namespaces that are watched for them.
pub(super) struct Follower<F> {
    state_dir: PathBuf,
    notify: F,
    changed: UnboundedSender<NetnsId>,
    pods: BTreeMap<CgroupId, FollowedPod>,
    namespaces: BTreeMap<NetnsId, WatchedNetns>,
}

impl<F: FnMut(FollowEvent<'_>)> Follower<F> {
    pub(super) fn new(state_dir: &Path, notify: F, changed: UnboundedSender<NetnsId>) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            notify,
            changed,
            pods: BTreeMap::new(),
            namespaces: BTreeMap::new(),
        }
    }

    /// Whether no pod is followed.
    pub(super) fn is_idle(&self) -> bool {
        self.pods.is_empty()
    }

    /// Brings the followed pods in line with the attached ones, and watches the namespaces they are
    /// in.
    pub(super) fn sync_pods(&mut self, scope: &Scope) -> Result<()> {
        let attached = self.attached_pods(scope)?;
        let paths = self.paths(&attached)?;
        let mut gone = mem::take(&mut self.pods);
        for (pod, path) in attached.iter().zip(paths) {
            let followed = gone.remove(&pod.id).or_else(|| {
                let cgroup = Cgroup::open(&path?).ok()?;
                Some(FollowedPod::new(cgroup))
            });
            if let Some(followed) = followed {
                let followed = self.locate(followed, pod, scope);
                if let (Some(netns), Some(true)) = (followed.netns, followed.is_due()) {
                    self.queue_read(netns);
                }
                self.pods.insert(pod.id, followed);
            }
        }
        for followed in gone.values() {
            self.notify(&followed.cgroup, FollowEventKind::Gone);
        }
        let used: BTreeSet<_> = self.pods.values().filter_map(|pod| pod.netns).collect();
        self.namespaces.retain(|id, _| used.contains(id));
        Ok(())
    }

    fn attached_pods(&self, scope: &Scope) -> Result<Vec<Pod>> {
        let pods = Reader::read(&self.state_dir, Reader::pods)?;
        let mut pods = pods.unwrap_or_default();
        if let Scope::One { cgroup, .. } = scope {
            pods.retain(|pod| pod.id == cgroup.id());
        }
        Ok(pods)
    }

    /// The folders of the pods' cgroups. They are searched for only if a pod is new.
    fn paths(&self, pods: &[Pod]) -> Result<Vec<Option<PathBuf>>> {
        if pods.iter().all(|pod| self.pods.contains_key(&pod.id)) {
            return Ok(vec![None; pods.len()]);
        }
        cgroup::find(&pods.iter().map(|pod| pod.id).collect::<Vec<_>>())
    }

    /// Watches the namespace that a pod is in now.
    fn locate(&mut self, mut followed: FollowedPod, pod: &Pod, scope: &Scope) -> FollowedPod {
        let named = match scope {
            Scope::One { netns, .. } => netns.as_ref(),
            Scope::All => None,
        };
        let found = match named {
            // The name may stand for another namespace by now, but the pod is still in the watched
            // one.
            Some(_)
                if followed
                    .netns
                    .is_some_and(|id| self.is_watching(id, pod.row.netns)) =>
            {
                return followed;
            }
            None if self.is_found(&followed, pod.row.netns) => return followed,
            _ if followed.netns.is_none() && followed.is_due() == Some(false) => return followed,
            Some(name) => name.open().map(Some),
            None => Ok(self.find_netns(&followed.cgroup, pod.row.netns)),
        };
        let watched = found.and_then(|found| match found {
            Some(netns) => self.watch(netns, pod).map(Some),
            None => Ok(None),
        });
        match watched {
            Ok(Some((id, name))) => {
                followed.is_unseen = false;
                if followed.netns.replace(id) != Some(id) {
                    self.notify(&followed.cgroup, FollowEventKind::Followed(name));
                    self.queue_read(id);
                }
            }
            Ok(None) => {
                followed.netns = None;
                if !mem::replace(&mut followed.is_unseen, true) {
                    self.notify(&followed.cgroup, FollowEventKind::Unseen);
                }
            }
            Err(error) => {
                followed.netns = None;
                if followed.fail(&error) {
                    self.notify(&followed.cgroup, FollowEventKind::Failed(error));
                }
            }
        }
        followed
    }

    /// Queues a read of a namespace, as if it had just changed.
    fn queue_read(&self, id: NetnsId) {
        // The receiver belongs to this follower, so it exists.
        self.changed.send(id).unwrap_or_default();
    }

    /// Whether a namespace is watched and has this cookie.
    fn is_watching(&self, id: NetnsId, cookie: u64) -> bool {
        self.namespaces
            .get(&id)
            .is_some_and(|watched| !watched.watch.is_over() && watched.cookie == cookie)
    }

    /// Whether the process by which a pod's namespace was found is still in it. If so, the
    /// namespace is watched and no process has to be searched for.
    fn is_found(&self, followed: &FollowedPod, cookie: u64) -> bool {
        followed.netns.is_some_and(|id| {
            let watched = self.namespaces.get(&id);
            self.is_watching(id, cookie)
                && watched.is_some_and(|watched| watched.netns.is_current())
        })
    }

    /// The namespace with this cookie, found by a process of the cgroup that is in it.
    fn find_netns(&self, cgroup: &Cgroup, cookie: u64) -> Option<NetnsHandle> {
        let mut others = BTreeSet::new();
        for pid in cgroup.processes() {
            // The process may have ended.
            let Ok(netns) = NetnsRef::Pid(pid).open() else {
                continue;
            };
            if others.contains(&netns.id()) {
                continue;
            }
            let known = self
                .namespaces
                .get(&netns.id())
                .map(|watched| watched.cookie);
            let found = known.map_or_else(|| netns.cookie().ok(), Some);
            if found == Some(cookie) {
                return Some(netns);
            }
            others.insert(netns.id());
        }
        None
    }

    /// Watches a namespace, unless it is watched already.
    fn watch(&mut self, netns: NetnsHandle, pod: &Pod) -> Result<(NetnsId, NetnsRef)> {
        let (id, name) = (netns.id(), netns.name().clone());
        if self.is_watching(id, pod.row.netns) {
            return Ok((id, name));
        }
        let cookie = netns.cookie()?;
        check_cookie(cookie, &name, pod)?;
        let changed = self.changed.clone();
        let watch = netns.watch(move || changed.send(id).unwrap_or_default())?;
        let watched = WatchedNetns {
            netns,
            cookie,
            watch,
        };
        self.namespaces.insert(id, watched);
        self.queue_read(id);
        Ok((id, name))
    }

    /// Refreshes every pod of the namespaces that have changed.
    pub(super) fn refresh_all(&mut self, first: NetnsId, changes: &mut UnboundedReceiver<NetnsId>) {
        let mut changed = BTreeSet::from([first]);
        while let Ok(id) = changes.try_recv() {
            changed.insert(id);
        }
        let mut pods = mem::take(&mut self.pods);
        let used = pods.values().filter_map(|followed| followed.netns);
        let used: BTreeSet<_> = used.filter(|netns| changed.contains(netns)).collect();
        // The namespaces are read without the lock, which protects the maps only.
        let read: BTreeMap<_, _> = used
            .into_iter()
            .filter_map(|id| Some((id, self.namespaces.get(&id)?.netns.read())))
            .map(|(id, read)| (id, read.map_err(|error| format!("{error:#}"))))
            .collect();
        for (id, refreshed) in self.refresh(&pods, &read) {
            let Some(followed) = pods.get_mut(&id) else {
                continue;
            };
            match refreshed {
                Ok(change) => {
                    followed.succeed();
                    if !change.is_none() {
                        self.notify(&followed.cgroup, FollowEventKind::Changed(change));
                    }
                }
                Err(error) => {
                    if followed.fail(&error) {
                        self.notify(&followed.cgroup, FollowEventKind::Failed(error));
                    }
                }
            }
        }
        self.pods = pods;
    }

    /// Brings the pods of these namespaces up to date, and returns a result for each.
    fn refresh(
        &self,
        pods: &BTreeMap<CgroupId, FollowedPod>,
        read: &BTreeMap<NetnsId, Result<NetnsSnapshot, String>>,
    ) -> Refreshed {
        let (mut done, mut readable) = (Vec::new(), Vec::new());
        for (id, followed) in pods {
            match followed.netns.and_then(|netns| read.get(&netns)) {
                Some(Ok(netns)) => readable.push((*id, netns)),
                Some(Err(error)) => done.push((*id, Err(anyhow!(error.clone())))),
                None => {}
            }
        }
        match self.try_refresh(&readable) {
            Ok(refreshed) => done.extend(refreshed),
            Err(error) => {
                let text = format!("{error:#}");
                done.extend(
                    readable
                        .iter()
                        .map(|(id, _)| (*id, Err(anyhow!(text.clone())))),
                );
            }
        }
        done
    }

    fn try_refresh(&self, read: &[(CgroupId, &NetnsSnapshot)]) -> Result<Refreshed> {
        let Some(mut writer) = Writer::open_existing(&self.state_dir)? else {
            return Ok(Vec::new());
        };
        let mut pods = Vec::new();
        for (id, netns) in read {
            match writer.active_row(*id)? {
                Some(row) if row.netns == netns.cookie => pods.push((Pod { id: *id, row }, *netns)),
                // The pod was detached or moved in the meantime. The next call of `sync_pods` sees
                // it.
                _ => {}
            }
        }
        let refreshed = writer.refresh(&pods)?;
        let ids = pods.iter().map(|(pod, _)| pod.id);
        Ok(ids.zip(refreshed).collect())
    }

    fn notify(&mut self, cgroup: &Cgroup, kind: FollowEventKind) {
        (self.notify)(FollowEvent {
            cgroup: cgroup.path(),
            kind,
        });
    }
}
