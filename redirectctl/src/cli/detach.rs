//! `redirectctl detach`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{context::Context, target::CgroupArg};

#[derive(Args, Debug)]
#[command(after_help = "\
New connections are direct at once. Open connections stay open, but getpeername
and SO_ORIGINAL_DST no longer show their original destination.

Example:
  redirectctl detach --cgroup /sys/fs/cgroup/my-pod")]
pub(super) struct Detach {
    #[command(flatten)]
    cgroup: CgroupArg,
}

#[derive(Serialize)]
struct Detached {
    cgroup: PathBuf,
    cgroup_id: u64,
}

impl Detach {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let mut writer = context.writer()?;
        let pod = self.cgroup.pod(&writer)?;
        writer.detach(&[pod])?;
        drop(writer);
        let detached = Detached {
            cgroup: self.cgroup.shown().to_owned(),
            cgroup_id: pod.id,
        };
        context.print(&detached, |_| {
            format!("detached \"{}\"\n", detached.cgroup.display())
        })
    }
}
