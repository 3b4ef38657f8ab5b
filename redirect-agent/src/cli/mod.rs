//! The command line of `redirect-agent`: a file per subcommand, each a thin call.

mod cleanup;
mod command_line;
mod exit_status;
mod install_cni;
mod log;
mod output;
mod plan;
mod run;
mod source;

pub use self::command_line::{command, run};
