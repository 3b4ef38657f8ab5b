//! The subcommand `cleanup`.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use clap::Args;
use redirect_user::{
    console::{Env, counted},
    node,
    sys::capability,
};

use super::output::OutputArg;
use crate::state_dir::AgentLock;

/// Arguments of `cleanup`.
#[derive(Args, Debug)]
#[command(after_help = "\
Works after a crash, and on attachments of other versions, but not while an agent is running. Files in
the state directory that no version creates are left there and named. Open connections stay open.

Example:
  redirect-agent cleanup")]
pub(super) struct Cleanup {
    #[command(flatten)]
    output: OutputArg,
}

impl Cleanup {
    pub(super) fn run(self, state_dir: &Path, env: &mut Env) -> Result<ExitCode> {
        capability::require(&capability::NEEDED)?;
        let lock = AgentLock::acquire(state_dir)?;
        let removed = node::uninstall(state_dir)?;
        lock.remove()?;
        env.print(self.output.output, &removed, |_| {
            let cgroups = counted(removed.cgroups, "cgroup");
            let pins = counted(removed.pins, "pin");
            format!("detached {cgroups}, removed {pins}\n")
        })?;
        removed.complete(state_dir)?;
        Ok(ExitCode::SUCCESS)
    }
}
