//! A follower in a thread, and the events that it reports.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use redirect_user::{
    node::{AddressChange, FollowEvent, FollowEventKind, Scope, follow},
    sys::{cgroup::Cgroup, netns::NetnsRef},
};
use tokio::sync::oneshot;

use crate::{
    Tested,
    harness::{OwnerFolder, Redirected},
};

/// A long time limit: tests check only that an event happens, not when.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// A follower in a thread of its own. Dropping it stops the follower.
pub(crate) struct Following {
    pub(super) news: Receiver<(PathBuf, FollowEventKind)>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Following {
    pub(super) fn start(owner: &OwnerFolder, scope: Scope) -> Self {
        let (send, news) = channel();
        let (stop, stopped) = oneshot::channel();
        let owner = owner.path().to_owned();
        let run = move || {
            let tell = |FollowEvent { cgroup, kind }: FollowEvent<'_>| {
                // An error means that the test is over.
                send.send((cgroup.to_owned(), kind)).unwrap_or_default();
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                tokio::select! {
                    ended = follow(&owner, scope, tell) => ended,
                    _ = stopped => Ok(()),
                }
            })
        };
        Self {
            news,
            stop: Some(stop),
            thread: Some(std::thread::spawn(run)),
        }
    }

    /// Starts following one pod, and waits until the follower is ready.
    pub(crate) fn pod(pod: &Redirected) -> Result<Self> {
        let scope = Scope::One {
            cgroup: Cgroup::open(pod.cgroup.path())?,
            netns: Some(NetnsRef::Path(pod.scene.pod.namespace())),
        };
        let following = Self::start(&pod.owner, scope);
        following.until(|event| matches!(event, FollowEventKind::Followed(_)).then_some(()))?;
        Ok(following)
    }

    /// Waits for an event for which `wanted` returns a value, and returns the value.
    pub(crate) fn until<T>(
        &self,
        mut wanted: impl FnMut(&FollowEventKind) -> Option<T>,
    ) -> Result<T> {
        loop {
            match self.news.recv_timeout(PATIENCE) {
                Ok((_, FollowEventKind::Failed(error))) => return Err(error),
                Ok((_, event)) => {
                    if let Some(found) = wanted(&event) {
                        return Ok(found);
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("wait for an event: it was not reported"),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("wait for an event: the follower has ended")
                }
            }
        }
    }

    /// Waits until these ranges are among the local addresses, or no longer.
    pub(super) fn until_changed(&self, is_local: bool, nets: &[&str]) -> Tested {
        let mut wanted: Vec<&str> = nets.to_vec();
        self.until(|event| {
            if let FollowEventKind::Changed(AddressChange { added, removed, .. }) = event {
                let list = if is_local { added } else { removed };
                wanted.retain(|net| !list.iter().any(|other| other.to_string() == *net));
            }
            wanted.is_empty().then_some(())
        })
        .with_context(|| format!("wait for {wanted:?}"))
    }

    /// Waits for the follower to end by itself.
    pub(super) fn join(mut self) -> Result<()> {
        let thread = self
            .thread
            .take()
            .context("join the follower: it has no thread")?;
        thread
            .join()
            .map_err(|_panic| anyhow!("join the follower: it panicked"))?
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
