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

use super::context::Context;

#[derive(Args, Debug)]
#[command(after_help = "\
`attach` and `update` read the local addresses of a pod. While this command
runs, it keeps them current: addresses that come and go, IPv6 addresses once
duplicate address detection has finished, and local routes to ranges. It also
keeps the routes to excluded interfaces (-c) current. The command runs until it
is interrupted, or with --cgroup until that cgroup is detached. A cgroup that
is attached later is found within two seconds. Each change is one line of
output.

Examples:
  redirectctl follow
  redirectctl follow --cgroup /sys/fs/cgroup/my-pod --netns /run/netns/my-pod")]
pub(super) struct Follow {
    /// Folder of an attached pod's cgroup (version 2) [default: all cgroups, also those attached later]
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Network namespace of the pod: a path, or pid:N [default: the one of a process in the cgroup]
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
            ..
        } = context;
        let print_event = |event: FollowEvent<'_>| {
            let text = match output {
                Format::Table if matches!(event.kind, FollowEventKind::Unseen) => {
                    format!("{event}: name it with --netns")
                }
                Format::Table => event.to_string(),
                Format::Json => serde_json::to_string(&event).unwrap_or_default(),
            };
            // A closed output is no reason to stop following.
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
                result = follow(state_dir, scope, print_event) => result,
                _ = interrupt.recv() => Ok(()),
                _ = terminate.recv() => Ok(()),
            }
        })
    }
}
