//! The pod that a command is about.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use redirect_user::{
    node::{Pod, Reader, ResolvConf},
    sys::{
        cgroup::{Cgroup, CgroupId},
        netns::NetnsRef,
    },
};

/// The option that names a pod.
#[derive(Args, Clone, Debug)]
pub(super) struct CgroupArg {
    /// Folder of the pod's cgroup (version 2), or id:N as in the output of `list`
    #[arg(long, value_name = "PATH")]
    pub(super) cgroup: PathBuf,
}

impl CgroupArg {
    /// Opens the cgroup, which must exist.
    pub(super) fn open(&self) -> Result<Cgroup> {
        match self.number()? {
            None => Ok(Cgroup::open(&self.cgroup)?),
            Some(id) => Cgroup::find(id)?
                .with_context(|| format!("find cgroup id:{id}: it is gone, or not visible here")),
        }
    }

    /// Finds the attached pod of this cgroup. A cgroup that is named by its id need not exist any more.
    pub(super) fn pod(&self, reader: &Reader) -> Result<Pod> {
        let id = match self.number()? {
            None => Cgroup::open(&self.cgroup)?.id(),
            Some(id) => id,
        };
        reader.pod(id, &self.cgroup)
    }

    /// The path as given.
    pub(super) fn shown(&self) -> &Path {
        &self.cgroup
    }

    fn number(&self) -> Result<Option<CgroupId>> {
        let text = self.cgroup.to_str().unwrap_or_default();
        let Some(number) = text.strip_prefix("id:") else {
            return Ok(None);
        };
        match number.parse() {
            Ok(id) => Ok(Some(id)),
            Err(_) => bail!(
                "find cgroup \"{text}\": its id is not a number: write it as `list` does, such as id:4711"
            ),
        }
    }
}

/// The option that names a network namespace.
#[derive(Args, Debug)]
pub(super) struct NetnsArg {
    /// Network namespace of the pod: a path, or pid:N [default: the one of a process in the cgroup,
    /// else the caller's]
    #[arg(long, value_name = "PATH|pid:N")]
    pub(super) netns: Option<NetnsRef>,
}

impl NetnsArg {
    /// The named namespace, or the namespace of the first process in the cgroup.
    pub(super) fn find(&self, cgroup: &Cgroup) -> Option<NetnsRef> {
        self.netns
            .clone()
            .or_else(|| cgroup.processes().first().copied().map(NetnsRef::Pid))
    }

    /// The pod's `resolv.conf`.
    pub(super) const fn resolv_conf<'a>(&'a self, cgroup: &'a Cgroup) -> ResolvConf<'a> {
        ResolvConf::Pod {
            cgroup,
            netns: self.netns.as_ref(),
        }
    }
}

/// The name of a cgroup in output: its folder, or else the form id:N, which `--cgroup` accepts.
pub(super) fn name(folder: Option<&Path>, id: CgroupId) -> String {
    folder.map_or_else(|| format!("id:{id}"), |folder| folder.display().to_string())
}
