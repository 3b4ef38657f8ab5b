//! `redirectctl upgrade`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use redirect_user::{
    node::{Upgraded, Writer, attached_by_others},
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
        let Upgraded { cgroups, links } = upgraded.unwrap_or_default();
        let others: Vec<_> = attached_by_others(&context.state_dir)?
            .into_iter()
            .collect();
        let report = UpgradeReport {
            cgroups,
            links,
            other_layout: cgroup::find(&others)?
                .into_iter()
                .zip(others)
                .map(|(cgroup, cgroup_id)| OtherLayout { cgroup, cgroup_id })
                .collect(),
        };
        context.print(&report, |_| report.text(upgraded.is_some()))
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
        for other in &self.other_layout {
            text += "attached by a version with another layout, attach it again: ";
            text += &target::name(other.cgroup.as_deref(), other.cgroup_id);
            text.push('\n');
        }
        text
    }
}
