//! `redirect-agent cleanup`.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use clap::Args;
use redirect_user::{console::Env, node, sys::capability};

use super::output::OutputArg;
use crate::owner::Ownership;

/// The arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
Works after a crash and on what another version left; not while an agent is running. What is not ours
in the folder is left there and named. Connections that are open stay open.

Example:
  redirect-agent cleanup")]
pub(super) struct Cleanup {
    #[command(flatten)]
    output: OutputArg,
}

impl Cleanup {
    pub(super) fn run(self, owner: &Path, env: &mut Env) -> Result<ExitCode> {
        capability::require(&capability::NEEDED)?;
        let ownership = Ownership::take(owner)?;
        let removed = node::uninstall(owner)?;
        ownership.remove()?;
        env.print(self.output.output, &removed, |_| {
            format!(
                "detached {} cgroups, removed {} pins\n",
                removed.cgroups, removed.pins
            )
        })?;
        removed.complete(owner)?;
        Ok(ExitCode::SUCCESS)
    }
}
