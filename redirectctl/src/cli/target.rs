//! Which pod a command is about.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, error::ErrorKind};
use redirect_user::{
    node::{Asker, Pod, Reader},
    sys::{cgroup::Cgroup, netns::NetnsRef},
};

/// The option that names a pod.
#[derive(Args, Debug)]
pub(super) struct CgroupArg {
    /// Folder of the pod's cgroup (version 2)
    #[arg(long, value_name = "PATH")]
    pub(super) cgroup: PathBuf,
}

impl CgroupArg {
    pub(super) fn open(&self) -> Result<Cgroup> {
        Cgroup::open(&self.cgroup)
    }

    /// The attached pod of this cgroup.
    pub(super) fn pod(&self, reader: &Reader) -> Result<Pod> {
        reader.pod(self.open()?.id(), &self.cgroup)
    }
}

/// What is wrong where a subcommand is given both an attached pod and options. Said here, because
/// clap would list every option there is.
pub(super) fn pod_or_options(subcommand: &str) -> clap::Error {
    let mut command = super::command();
    command.build();
    let text = "--cgroup stands for the options that the cgroup has: leave out the others";
    match command.find_subcommand_mut(subcommand) {
        Some(found) => found.error(ErrorKind::ArgumentConflict, text),
        None => command.error(ErrorKind::ArgumentConflict, text),
    }
}

/// The option that names a network namespace.
#[derive(Args, Debug)]
pub(super) struct NetnsArg {
    /// Network namespace of the pod: a path, or pid:N [default: that of a process in the cgroup,
    /// else the caller's]
    #[arg(long, value_name = "PATH|pid:N")]
    pub(super) netns: Option<NetnsRef>,
}

impl NetnsArg {
    /// The namespace asked for, or that of the first process in the cgroup that still runs.
    pub(super) fn find(&self, cgroup: &Cgroup) -> Option<NetnsRef> {
        self.netns
            .clone()
            .or_else(|| cgroup.processes().first().copied().map(NetnsRef::Pid))
    }

    /// Whose resolvers are the pod's.
    pub(super) const fn asker<'a>(&'a self, cgroup: &'a Cgroup) -> Asker<'a> {
        Asker::Pod {
            cgroup,
            netns: self.netns.as_ref(),
        }
    }

    /// What is odd about a namespace that was asked for: no process of the cgroup is in it.
    pub(super) fn doubt(&self, cgroup: &Cgroup) -> Option<String> {
        let asked = self.netns.as_ref()?;
        let id = asked.open().ok()?.id();
        let mut processes = cgroup.processes().into_iter().peekable();
        let first = *processes.peek()?;
        let is_there = |pid| {
            NetnsRef::Pid(pid)
                .open()
                .is_ok_and(|netns| netns.id() == id)
        };
        (!processes.any(is_there)).then(|| {
            format!(
                "--netns {asked}: no process of the cgroup is in that network namespace, pid {first} is in another: what is made there is left alone"
            )
        })
    }
}
