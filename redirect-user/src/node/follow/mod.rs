//! Following: keeping the addresses of attached pods up to date while their network namespaces
//! change.
//!
//! Netlink announces that something has changed, and then the namespace is read as a whole. So
//! neither the order of the messages nor a lost message leaves the maps out of date. The watch
//! begins before the first read.

mod event;
mod followed_pod;
mod follower;
mod scope;

use std::path::Path;

use anyhow::Result;
use tokio::{
    sync::mpsc::unbounded_channel,
    time::{MissedTickBehavior, interval},
};

pub use self::{
    event::{FollowEvent, FollowEventKind},
    scope::Scope,
};
use self::{
    followed_pod::LIST_INTERVAL,
    follower::{Follower, check},
};

/// Follows pods, and calls `notify` for each of their events. With [`Scope::One`] it returns when
/// the pod is detached, and fails if the pod is not attached. It also fails if the state cannot be
/// read. With [`Scope::All`] it runs until the future is dropped.
///
/// The future blocks while it reads a namespace or waits for the state's lock. Run it in a thread
/// of its own if other tasks must make progress.
pub async fn follow(
    state_dir: &Path,
    scope: Scope,
    notify: impl FnMut(FollowEvent<'_>),
) -> Result<()> {
    let (changed, mut changes) = unbounded_channel();
    let mut follower = Follower::new(state_dir, notify, changed);
    let mut timer = interval(LIST_INTERVAL);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if let Scope::One { cgroup, netns } = &scope {
        check(state_dir, cgroup, netns.as_ref())?;
    }
    loop {
        tokio::select! {
            _ = timer.tick() => {
                follower.sync_pods(&scope)?;
                if follower.is_idle() && matches!(scope, Scope::One { .. }) {
                    return Ok(());
                }
            }
            Some(netns) = changes.recv() => follower.refresh_all(netns, &mut changes),
        }
    }
}
