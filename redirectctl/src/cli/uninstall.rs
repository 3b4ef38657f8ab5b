//! `redirectctl uninstall`.

use anyhow::Result;
use clap::Args;
use redirect_user::node;

use super::Context;

/// The arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
Works after a crash and on what another version left. What is not ours in the folder is left there
and named. Connections that are open stay open.

Example:
  redirectctl uninstall")]
pub(super) struct Uninstall {}

impl Uninstall {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let Self {} = self;
        let removed = node::uninstall(&context.owner)?;
        context.print(&removed, || {
            format!(
                "removed {} attached cgroups, {} pins\n",
                removed.pods, removed.pins
            )
        })?;
        removed.complete(&context.owner)
    }
}
