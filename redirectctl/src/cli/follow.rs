//! `redirectctl follow`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use redirect_user::{
    console::Format,
    node::{FollowEvent, FollowEventKind, Scope, follow},
    sys::{cgroup::Cgroup, netns::NetnsRef},
};
use tokio::signal::unix::{SignalKind, signal};

use super::Context;

/// The arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
The addresses of a pod are read when it is attached or updated. While this
command runs they are kept current: addresses that come and go, IPv6 ones once
they have proven to be nobody else's, and local routes to ranges. So are the
routes to excluded interfaces (-c). The command stays in the foreground until it
is interrupted, or until the one cgroup that it is about is detached. A cgroup
that is attached later is found within two seconds. One line is printed for
each change.

Examples:
  redirectctl follow
  redirectctl follow --cgroup /sys/fs/cgroup/my-pod --netns /run/netns/my-pod")]
pub(super) struct Follow {
    /// Folder of an attached pod's cgroup (version 2) [default: all that are attached, or will be]
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Network namespace of that pod: a path, or pid:N [default: that of a process in the cgroup]
    #[arg(long, value_name = "PATH|pid:N", requires = "cgroup")]
    netns: Option<NetnsRef>,
}

impl Follow {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let scope = match self.cgroup {
            Some(cgroup) => Scope::One {
                cgroup: Cgroup::open(&cgroup)?,
                netns: self.netns,
            },
            None => Scope::All,
        };
        let Context {
            env,
            output,
            state_dir,
        } = context;
        let tell = |event: FollowEvent<'_>| {
            let text = match output {
                Format::Table if matches!(event.kind, FollowEventKind::Unseen) => {
                    format!("{event}: say with --netns which that is")
                }
                Format::Table => event.to_string(),
                Format::Json => serde_json::to_string(&event).unwrap_or_default(),
            };
            // Nobody reading is no reason to stop following.
            drop(writeln!(env.stdout, "{text}").and_then(|()| env.stdout.flush()));
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime")?;
        runtime.block_on(async {
            let listen = |kind| signal(kind).context("listen to signals");
            let mut interrupt = listen(SignalKind::interrupt())?;
            let mut terminate = listen(SignalKind::terminate())?;
            tokio::select! {
                ended = follow(state_dir, scope, tell) => ended,
                _ = interrupt.recv() => Ok(()),
                _ = terminate.recv() => Ok(()),
            }
        })
    }
}
