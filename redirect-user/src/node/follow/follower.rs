//! The follower: which namespaces are listened to, for which pods, and what a change does.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::{
    Scope,
    event::{FollowEvent, FollowEventKind},
    pod::Followed,
};
use crate::{
    node::{AddressChange, Pod, Reader, Writer},
    sys::{
        cgroup::{self, Cgroup, CgroupId},
        netns::{NetnsHandle, NetnsId, NetnsRef, NetnsSnapshot, Watch},
    },
};

/// Finds out at once what could never be followed.
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

/// What came of pods that were refreshed.
type Refreshed = Vec<(CgroupId, Result<AddressChange>)>;

/// A namespace that is listened to.
struct Space {
    netns: NetnsHandle,
    cookie: u64,
    watch: Watch,
}

/// Pods, and the namespaces that are listened to for them.
pub(super) struct Follower<F> {
    state_dir: PathBuf,
    tell: F,
    changed: UnboundedSender<NetnsId>,
    pods: BTreeMap<CgroupId, Followed>,
    spaces: BTreeMap<NetnsId, Space>,
}

impl<F: FnMut(FollowEvent<'_>)> Follower<F> {
    pub(super) fn new(state_dir: &Path, tell: F, changed: UnboundedSender<NetnsId>) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            tell,
            changed,
            pods: BTreeMap::new(),
            spaces: BTreeMap::new(),
        }
    }

    /// Whether no pod is followed.
    pub(super) fn is_idle(&self) -> bool {
        self.pods.is_empty()
    }

    /// Lists the pods, and listens to those namespaces that they are in.
    pub(super) fn look(&mut self, scope: &Scope) -> Result<()> {
        let attached = self.attached(scope)?;
        let paths = self.paths(&attached)?;
        let mut gone = mem::take(&mut self.pods);
        for (pod, path) in attached.iter().zip(paths) {
            let followed = gone.remove(&pod.id).or_else(|| {
                let cgroup = Cgroup::open(&path?).ok()?;
                Some(Followed::new(cgroup))
            });
            if let Some(followed) = followed {
                let followed = self.locate(followed, pod, scope);
                if let (Some(space), Some(true)) = (followed.space, followed.is_due()) {
                    self.reread(space);
                }
                self.pods.insert(pod.id, followed);
            }
        }
        for followed in gone.values() {
            self.tell(&followed.cgroup, FollowEventKind::Gone);
        }
        let used: BTreeSet<_> = self.pods.values().filter_map(|pod| pod.space).collect();
        self.spaces.retain(|id, _| used.contains(id));
        Ok(())
    }

    fn attached(&self, scope: &Scope) -> Result<Vec<Pod>> {
        let Some(reader) = Reader::open(&self.state_dir)? else {
            return Ok(Vec::new());
        };
        let mut pods = reader.pods()?;
        if let Scope::One { cgroup, .. } = scope {
            pods.retain(|pod| pod.id == cgroup.id());
        }
        Ok(pods)
    }

    /// Where the cgroups are; looked for only if one is new.
    fn paths(&self, pods: &[Pod]) -> Result<Vec<Option<PathBuf>>> {
        if pods.iter().all(|pod| self.pods.contains_key(&pod.id)) {
            return Ok(vec![None; pods.len()]);
        }
        cgroup::find(&pods.iter().map(|pod| pod.id).collect::<Vec<_>>())
    }

    /// Listens to the namespace that a pod is in now.
    fn locate(&mut self, mut followed: Followed, pod: &Pod, scope: &Scope) -> Followed {
        let given = match scope {
            Scope::One { netns, .. } => netns.as_ref(),
            Scope::All => None,
        };
        let found = match given {
            // Whatever it is the name of by now, it is the one that the pod is in.
            Some(_)
                if followed
                    .space
                    .is_some_and(|id| self.hears(id, pod.row.netns)) =>
            {
                return followed;
            }
            None if self.is_there(&followed, pod.row.netns) => return followed,
            _ if followed.space.is_none() && followed.is_due() == Some(false) => return followed,
            Some(name) => name.open().map(Some),
            None => Ok(self.find(&followed.cgroup, pod.row.netns)),
        };
        let listened = found.and_then(|found| match found {
            Some(netns) => self.listen(netns, pod).map(Some),
            None => Ok(None),
        });
        match listened {
            Ok(Some((id, name))) => {
                followed.is_unseen = false;
                if followed.space.replace(id) != Some(id) {
                    self.tell(&followed.cgroup, FollowEventKind::Followed(name));
                    self.reread(id);
                }
            }
            Ok(None) => {
                followed.space = None;
                if !mem::replace(&mut followed.is_unseen, true) {
                    self.tell(&followed.cgroup, FollowEventKind::Unseen);
                }
            }
            Err(error) => {
                followed.space = None;
                if followed.fail(&error) {
                    self.tell(&followed.cgroup, FollowEventKind::Failed(error));
                }
            }
        }
        followed
    }

    /// Has a namespace read by the loop, as if it had just changed.
    fn reread(&self, id: NetnsId) {
        // The other end is this follower's own.
        self.changed.send(id).unwrap_or_default();
    }

    /// Whether a namespace is listened to, and is the one with this cookie.
    fn hears(&self, id: NetnsId, cookie: u64) -> bool {
        self.spaces
            .get(&id)
            .is_some_and(|space| !space.watch.is_over() && space.cookie == cookie)
    }

    /// Whether the process that a pod's namespace was found by is in it still: then it is listened to
    /// for somebody, and there is nothing to look for.
    fn is_there(&self, followed: &Followed, cookie: u64) -> bool {
        followed.space.is_some_and(|id| {
            let space = self.spaces.get(&id);
            self.hears(id, cookie) && space.is_some_and(|space| space.netns.is_current())
        })
    }

    /// The namespace with this cookie, by a process of the cgroup that is in it.
    fn find(&self, cgroup: &Cgroup, cookie: u64) -> Option<NetnsHandle> {
        let mut others = BTreeSet::new();
        for pid in cgroup.processes() {
            // It may have ended.
            let Ok(netns) = NetnsRef::Pid(pid).open() else {
                continue;
            };
            if others.contains(&netns.id()) {
                continue;
            }
            let known = self.spaces.get(&netns.id()).map(|space| space.cookie);
            let own = known.map_or_else(|| netns.cookie().ok(), Some);
            if own == Some(cookie) {
                return Some(netns);
            }
            others.insert(netns.id());
        }
        None
    }

    /// Listens to a namespace, if nobody does yet.
    fn listen(&mut self, netns: NetnsHandle, pod: &Pod) -> Result<(NetnsId, NetnsRef)> {
        let (id, name) = (netns.id(), netns.name().clone());
        if self.hears(id, pod.row.netns) {
            return Ok((id, name));
        }
        let cookie = netns.cookie()?;
        check_cookie(cookie, &name, pod)?;
        let changed = self.changed.clone();
        let watch = netns.watch(move || changed.send(id).unwrap_or_default())?;
        let space = Space {
            netns,
            cookie,
            watch,
        };
        self.spaces.insert(id, space);
        self.reread(id);
        Ok((id, name))
    }

    /// Refreshes every pod of the namespaces that have changed by now.
    pub(super) fn refresh_all(&mut self, first: NetnsId, changes: &mut UnboundedReceiver<NetnsId>) {
        let mut changed = BTreeSet::from([first]);
        while let Ok(id) = changes.try_recv() {
            changed.insert(id);
        }
        let mut pods = mem::take(&mut self.pods);
        let spaces = pods.values().filter_map(|followed| followed.space);
        let spaces: BTreeSet<_> = spaces.filter(|space| changed.contains(space)).collect();
        // Without the lock: it is others that change them.
        let read: BTreeMap<_, _> = spaces
            .into_iter()
            .filter_map(|id| Some((id, self.spaces.get(&id)?.netns.read())))
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
                        self.tell(&followed.cgroup, FollowEventKind::Changed(change));
                    }
                }
                Err(error) => {
                    if followed.fail(&error) {
                        self.tell(&followed.cgroup, FollowEventKind::Failed(error));
                    }
                }
            }
        }
        self.pods = pods;
    }

    /// Brings the pods of these namespaces up to date, and tells what came of each.
    fn refresh(
        &self,
        pods: &BTreeMap<CgroupId, Followed>,
        read: &BTreeMap<NetnsId, Result<NetnsSnapshot, String>>,
    ) -> Refreshed {
        let (mut done, mut readable) = (Vec::new(), Vec::new());
        for (id, followed) in pods {
            match followed.space.and_then(|space| read.get(&space)) {
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
                // Detached meanwhile, or moved elsewhere: the next look will see.
                _ => {}
            }
        }
        let refreshed = writer.refresh(&pods)?;
        let ids = pods.iter().map(|(pod, _)| pod.id);
        Ok(ids.zip(refreshed).collect())
    }

    fn tell(&mut self, cgroup: &Cgroup, kind: FollowEventKind) {
        (self.tell)(FollowEvent {
            cgroup: cgroup.path(),
            kind,
        });
    }
}
