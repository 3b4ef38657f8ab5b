//! The log, on standard error.

use std::io::{self, IsTerminal as _};

use clap::{Args, ValueEnum};
use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{
    filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Options of the log.
#[derive(Args, Debug)]
pub(super) struct LogArg {
    /// Format of the log, on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log: LogFormat,
    /// Least severe level that is logged: error, warn, info, debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: Level,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// Lines of text
    Text,
    /// Lines of JSON
    Json,
}

impl LogArg {
    /// Starts logging.
    pub(super) fn start(&self) {
        let log = tracing_subscriber::fmt()
            .with_max_level(self.log_level)
            .with_writer(io::stderr)
            // Errors of logging have nowhere to go, and reporting them would panic: a full disk must not end
            // the agent.
            .log_internal_errors(false)
            .with_target(false);
        // The caller of the API server logs each failure once.
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
