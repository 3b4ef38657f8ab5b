//! `redirectctl upgrade`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use redirect_user::{
    node::{FailedUpgrade, Upgraded, Writer, attached_by_others},
    sys::cgroup,
};
use serde::Serialize;

use super::{context::Context, target};

#[derive(Args, Debug)]
#[command(after_help = "\
The command replaces older programs and newer ones, if they use the same layout
of the maps. Cgroups that were attached by a version with another layout are
named: attach them again with this version, which takes them over.

Example:
  redirectctl upgrade")]
pub(super) struct Upgrade {}

#[derive(Serialize)]
struct UpgradeReport {
    cgroups: usize,
    links: usize,
    failed: Vec<FailedUpgrade>,
    other_layout: Vec<OtherLayout>,
}

/// A cgroup that was attached by a version with another layout.
#[derive(Serialize)]
struct OtherLayout {
    cgroup: Option<PathBuf>,
    cgroup_id: u64,
}

impl Upgrade {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let Self {} = self;
        let writer = Writer::open_existing(&context.state_dir)?;
        let upgraded = match writer {
            Some(mut writer) => writer.upgrade()?,
            None => None,
        };
        let is_upgraded = upgraded.is_some();
        let Upgraded {
            cgroups,
            links,
            failed,
        } = upgraded.unwrap_or_default();
        let others: Vec<_> = attached_by_others(&context.state_dir)?
            .into_iter()
            .collect();
        let report = UpgradeReport {
            cgroups,
            links,
            failed,
            other_layout: cgroup::find(&others)?
                .into_iter()
                .zip(others)
                .map(|(cgroup, cgroup_id)| OtherLayout { cgroup, cgroup_id })
                .collect(),
        };
        context.print(&report, |_| report.text(is_upgraded))?;
        match report.failed.as_slice() {
            [] => Ok(()),
            failed => bail!(
                "replace the programs of {} cgroups: see above: the others run those of this version; run the command again once the reason is removed",
                failed.len()
            ),
        }
    }
}

impl UpgradeReport {
    fn text(&self, is_upgraded: bool) -> String {
        let mut text = if is_upgraded {
            format!(
                "replaced the programs of {} attached cgroups\n",
                self.cgroups
            )
        } else {
            "no attached cgroup runs other programs of this layout\n".to_owned()
        };
        for failed in &self.failed {
            text += "not replaced: ";
            text += &target::name(None, failed.cgroup_id);
            text += ": ";
            text += &failed.error;
            text.push('\n');
        }
        for other in &self.other_layout {
            text += "attached by a version with another layout, attach it again: ";
            text += &target::name(other.cgroup.as_deref(), other.cgroup_id);
            text.push('\n');
        }
        text
    }
}
