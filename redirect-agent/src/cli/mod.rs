//! The command line of `redirect-agent`: one file for each subcommand, which calls the library.

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
