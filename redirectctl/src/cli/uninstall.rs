//! `redirectctl uninstall`.

use anyhow::{Result, bail};
use clap::Args;
use redirect_user::{
    console::counted,
    node::{attached_anywhere, uninstall},
    sys::cgroup,
};

use super::{context::Context, target};

#[derive(Args, Debug)]
#[command(after_help = "\
The command works after a crash, and on the state of other versions. Files that
no version makes are named and stay in the state directory. Open connections
stay open.

Examples:
  redirectctl uninstall
  redirectctl uninstall --yes")]
pub(super) struct Uninstall {
    /// Also detach attached cgroups
    #[arg(long, short)]
    yes: bool,
}

/// The most cgroups that are named.
const SHOWN: usize = 8;

impl Uninstall {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let attached: Vec<_> = attached_anywhere(&context.state_dir)?.into_iter().collect();
        if !self.yes && !attached.is_empty() {
            let folders = cgroup::find(&attached)?;
            let pairs = folders.iter().zip(&attached).take(SHOWN);
            let named = pairs.fold(String::new(), |text, (folder, id)| {
                text + "\n  " + &target::name(folder.as_deref(), *id)
            });
            let more = match attached.len().saturating_sub(SHOWN) {
                0 => String::new(),
                more => format!("\n  and {more} more"),
            };
            bail!(
                "uninstall: {} attached, and would no longer be redirected: confirm with --yes:{named}{more}",
                counted(attached.len(), "cgroup")
            );
        }
        let removed = uninstall(&context.state_dir)?;
        context.print(&removed, |_| {
            let cgroups = counted(removed.cgroups, "cgroup");
            let pins = counted(removed.pins, "pin");
            format!("detached {cgroups}, removed {pins}\n")
        })?;
        removed.complete(&context.state_dir)
    }
}
