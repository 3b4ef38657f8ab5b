//! Keeping the addresses of attached pods current while their namespaces change.
//!
//! Netlink says that something changed, and then the namespace is read as a whole: no order of
//! events, and no event that was lost, leaves the maps behind. It starts to listen before it reads.

mod event;
mod follower;
mod pod;

use std::{path::Path, time::Duration};

use anyhow::Result;
use tokio::{
    sync::mpsc::unbounded_channel,
    time::{MissedTickBehavior, interval},
};

pub use self::event::{FollowEvent, FollowEventKind};
use self::follower::{Follower, check};
use crate::sys::{cgroup::Cgroup, netns::NetnsRef};

/// How often attached pods are listed. What was attached meanwhile is followed from then on; what
/// was removed, or whose last process ended, is let go, because listening keeps a namespace alive.
const LOOK: Duration = Duration::from_secs(2);

/// Which pods are followed.
#[derive(Debug)]
pub enum Scope {
    /// All that are attached, or will be.
    All,
    /// The pod of a cgroup, until it is detached.
    One {
        /// Its cgroup.
        cgroup: Cgroup,
        /// Its namespace, if not that of its processes.
        netns: Option<NetnsRef>,
    },
}

/// Follows pods, and tells what happens to them. Ends when the one pod it is about is gone, and
/// with an error if that is not attached, or if the state cannot be read; [`Scope::All`] goes on
/// until it is dropped.
///
/// It blocks while it reads a namespace or waits for the state's lock: give it a thread of its own
/// where other things must go on.
pub async fn follow(
    state_dir: &Path,
    scope: Scope,
    tell: impl FnMut(FollowEvent<'_>),
) -> Result<()> {
    let (changed, mut changes) = unbounded_channel();
    let mut follower = Follower::new(state_dir, tell, changed);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if let Scope::One { cgroup, netns } = &scope {
        check(state_dir, cgroup, netns.as_ref())?;
    }
    loop {
        tokio::select! {
            _ = look.tick() => {
                follower.look(&scope)?;
                if follower.is_idle() && matches!(scope, Scope::One { .. }) {
                    return Ok(());
                }
            }
            Some(space) = changes.recv() => follower.refresh_all(space, &mut changes),
        }
    }
}
