//! The command line: one file for each subcommand, each a thin call into redirect-user or redirect-iptables.
//!
//! Commands named by nouns read, commands named by verbs write: `list`, `show`, `status`, `explain` and `doctor` take a
//! reader. Results and messages go through [`Env`](redirect_user::console::Env), so that tests run commands in-process.

mod attach;
mod cidr;
mod command_line;
mod completions;
mod context;
mod detach;
mod doctor;
mod exec;
mod explain;
mod follow;
mod health;
mod import;
mod input;
mod list;
#[cfg(feature = "log")]
mod log;
mod options;
mod parity;
mod parity_report;
mod proxy;
mod rules;
mod show;
mod status;
mod target;
mod uninstall;
mod update;
mod upgrade;
mod usage;

pub use command_line::{command, run};
