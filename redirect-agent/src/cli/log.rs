//! What the agent says while it runs, on standard error.

use std::io::{self, IsTerminal as _};

use clap::{Args, ValueEnum};
use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{
    filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// How it says it.
#[derive(Args, Debug)]
pub(super) struct LogArg {
    /// How the log is written, to standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log: LogFormat,
    /// How much is logged: error, warn, info, debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: Level,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// A line for a person
    Text,
    /// A line of JSON
    Json,
}

impl LogArg {
    /// From now on.
    pub(super) fn start(&self) {
        let log = tracing_subscriber::fmt()
            .with_max_level(self.log_level)
            .with_writer(io::stderr)
            // Where would it say that standard error cannot be written? It would panic: a disk that is
            // full must not end the agent.
            .log_internal_errors(false)
            .with_target(false);
        // Whoever asks the API server says what came of it, once.
        let others = Targets::new()
            .with_default(self.log_level)
            .with_target("kube_client", LevelFilter::OFF);
        match self.log {
            LogFormat::Text => {
                let log = log.with_ansi(io::stderr().is_terminal());
                log.finish().with(others).init();
            }
            LogFormat::Json => log.json().flatten_event(true).finish().with(others).init(),
        }
    }
}
