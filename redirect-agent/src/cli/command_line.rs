//! The command line: its parser, and its exit status.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{FromArgMatches as _, Parser, Subcommand};
use redirect_user::console::Env;

use super::{cleanup::Cleanup, exit_status, install_cni::InstallCni, plan::Plan, run::Run};
use crate::state_dir::{self, AlreadyRunning};

/// Keeps the workloads of a node redirected to their proxies as they are described.
#[derive(Debug, Parser)]
#[command(name = "redirect-agent", version, propagate_version = true, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    /// State directory, on a BPF file system. Every attachment in it belongs to the agent, and is detached if
    /// nothing describes it; `redirectctl --bpffs` with the same directory shows it
    #[arg(long, global = true, value_name = "DIR", default_value = state_dir::DEFAULT)]
    bpffs: PathBuf,

    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  redirect-agent plan
  redirect-agent run --metrics-listen 127.0.0.1:15092
  redirect-agent cleanup

Exit status:
  0  done, or stopped by SIGTERM or SIGINT
  1  failed: the message says why
  2  bad command line
  3  `plan` and `run --once`: some workloads are refused or failed, the others are as described
  4  another agent is running with the same state directory";

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep workloads redirected until stopped; attachments stay
    Run(Run),
    /// Show what `run` would do now, and change nothing
    Plan(Plan),
    /// Detach everything that agents of any version have attached, and remove every trace
    Cleanup(Cleanup),
    /// Add the CNI plugin to the node's network configuration, or remove it
    InstallCni(InstallCni),
}

/// Definition of the command line, for the documentation.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Runs a command line.
pub fn run(env: &mut Env) -> ExitCode {
    let parsed = command()
        .try_get_matches_from(env.arguments.clone())
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return env.usage(&error),
    };
    match dispatch(cli, env) {
        Ok(code) => code,
        Err(error) => {
            env.error(&error);
            if error.is::<AlreadyRunning>() {
                ExitCode::from(exit_status::ALREADY_RUNNING)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn dispatch(cli: Cli, env: &mut Env) -> Result<ExitCode> {
    let Cli { bpffs, command } = cli;
    match command {
        Command::Run(command) => command.run(bpffs, env),
        Command::Plan(command) => command.run(&bpffs, env),
        Command::Cleanup(command) => command.run(&bpffs, env),
        Command::InstallCni(command) => command.run(env),
    }
}
