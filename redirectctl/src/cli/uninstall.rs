//! `redirectctl uninstall`.

use anyhow::{Result, bail};
use clap::Args;
use redirect_user::{
    console::counted,
    node::{attached_anywhere, uninstall},
    sys::cgroup,
};

use super::{Context, target};

/// The arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
Works after a crash and on what another version left. Files that no version
makes are left in the folder and named. Connections that are open stay open.

Examples:
  redirectctl uninstall
  redirectctl uninstall --yes")]
pub(super) struct Uninstall {
    /// Detach the cgroups that are attached, too
    #[arg(long, short)]
    yes: bool,
}

/// How many cgroups are named.
const SHOWN: usize = 8;

impl Uninstall {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let attached: Vec<_> = attached_anywhere(&context.state_dir)?.into_iter().collect();
        if !self.yes && !attached.is_empty() {
            let named = cgroup::find(&attached)?
                .iter()
                .zip(&attached)
                .take(SHOWN)
                .map(|(folder, id)| format!("\n  {}", target::name(folder.as_deref(), *id)))
                .collect::<String>();
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
