//! `redirectctl completions`.

use anyhow::{Context as _, Result};
use clap::Args;
use clap_complete::Shell;

use super::context::Context;

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  redirectctl completions bash > /etc/bash_completion.d/redirectctl")]
pub(super) struct Completions {
    /// Shell of the script
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(
            self.shell,
            &mut (context.definition)(),
            "redirectctl",
            &mut script,
        );
        context
            .env
            .stdout
            .write_all(&script)
            .context("print the script")
    }
}
