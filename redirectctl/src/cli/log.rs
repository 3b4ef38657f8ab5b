//! `redirectctl log`, in a build with the feature "log".

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use clap::Args;
use redirect_user::bpf;

use super::context::Context;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  redirectctl log")]
pub(super) struct LogCommand {}

/// Prints each record when it arrives.
struct Printer;

impl log::Log for Printer {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // A closed output is no reason to stop.
        drop(writeln!(io::stdout(), "{}", record.args()));
    }

    fn flush(&self) {}
}

impl LogCommand {
    pub(super) fn run(self, context: &Context<'_>) -> Result<()> {
        let Self {} = self;
        // The lock ends with the reader: following must not block other commands.
        let pins = context.reader()?.pins().clone();
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("start a runtime")?
            .block_on(bpf::log::follow(&pins, Printer))
    }
}
