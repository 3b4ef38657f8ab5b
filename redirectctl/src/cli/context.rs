//! The context of a subcommand: the console, the format of results, and the state directory.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use redirect_user::{
    bpf::Pins,
    config::{Flags, Resolved, resolve},
    console::{Env, Format, Screen},
    node::{Reader, Writer},
};
use serde::Serialize;

/// The parts of the command line that every subcommand may use.
pub(super) struct Context<'env> {
    pub(super) env: &'env mut Env,
    pub(super) output: Format,
    pub(super) state_dir: PathBuf,
    /// The longest time to wait for other processes that change the state.
    pub(super) lock_timeout: Duration,
    /// The definition of the command line.
    pub(super) definition: fn() -> clap::Command,
}

impl Context<'_> {
    /// Prints a result in the chosen format.
    pub(super) fn print<T: Serialize>(
        &mut self,
        value: &T,
        text: impl FnOnce(Screen) -> String,
    ) -> Result<()> {
        self.env.print(self.output, value, text)
    }

    /// Prints warnings.
    pub(super) fn warn(&mut self, warnings: &[String]) {
        for warning in warnings {
            self.env.warn(warning);
        }
    }

    /// The configuration that options and environment give.
    pub(super) fn resolve(&self, flags: &Flags) -> Result<Resolved> {
        Ok(resolve(
            flags,
            &self.env.variables,
            &self.env.users,
            &self.env.groups,
        )?)
    }

    /// Opens the state for a command that needs an attached pod.
    pub(super) fn reader(&self) -> Result<Reader> {
        self.loaded(Reader::open(&self.state_dir)?)
    }

    /// Reads from the state for a command that needs an attached pod. `read` may be called several times.
    pub(super) fn read<T>(&self, read: impl FnMut(&Reader) -> Result<T>) -> Result<T> {
        self.loaded(Reader::read(&self.state_dir, read)?)
    }

    fn loaded<T>(&self, found: Option<T>) -> Result<T> {
        found.with_context(|| {
            format!(
                "open \"{}\": nothing is attached: {}",
                self.state_dir.display(),
                self.elsewhere()
                    .unwrap_or_else(|| "see `redirectctl attach --help`".to_owned())
            )
        })
    }

    /// The remedy for somebody who looks for the agent's attachments in another state directory.
    pub(super) fn elsewhere(&self) -> Option<String> {
        let agents = Path::new(Pins::AGENT_STATE_DIR);
        (self.state_dir != agents && agents.exists()).then(|| {
            format!(
                "redirect-agent's attachments are shown with --bpffs {}",
                agents.display()
            )
        })
    }

    /// Opens the state for a change.
    pub(super) fn writer(&self) -> Result<Writer> {
        Writer::open_within(&self.state_dir, self.lock_timeout)
    }
}
