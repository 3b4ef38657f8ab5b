//! `redirectctl`: one file per subcommand, each a thin call into the library.
//!
//! Nouns read, verbs write: `list`, `show`, `status`, `explain` and `doctor` take a reader.
//! Everything that is printed goes through [`Env`], so that tests run commands in-process.

mod attach;
mod cidr;
mod completions;
mod detach;
mod doctor;
mod exec;
mod explain;
mod follow;
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

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Error, Result};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use redirect_user::{
    bpf::Pins,
    config::{CidrListError, ConfigError},
    console::{Env, Format, Screen},
};
use serde::Serialize;

/// Redirects a pod's connections to its proxy with eBPF, in place of Istio's iptables rules.
#[derive(Debug, Parser)]
#[command(name = "redirectctl", version, propagate_version = true, max_term_width = 80, after_help = AFTER_HELP)]
struct Cli {
    /// How results are printed
    #[arg(long, global = true, value_name = "FORMAT", default_value = "table", help_heading = GLOBAL, display_order = 1000)]
    output: Format,

    /// Folder on a BPF file system that holds all state
    #[arg(long, global = true, value_name = "DIR", default_value = Pins::DEFAULT_STATE_DIR, help_heading = GLOBAL, display_order = 1000)]
    bpffs: PathBuf,

    #[command(subcommand)]
    command: Command,
}

/// The heading of the options that every subcommand has, after its own.
const GLOBAL: &str = "Global options";

const AFTER_HELP: &str = "\
Examples:
  redirectctl exec --with-proxy allow-any -- curl http://example.com/
  CG=/sys/fs/cgroup/my-pod
  redirectctl attach --cgroup $CG -u 1337 -i '*' -x 10.0.0.0/8
  redirectctl cidr add --cgroup $CG 36.152.44.0/24
  redirectctl explain --cgroup $CG --uid 1000 --dst 36.152.44.96:80

Exit status:
  0  done
  1  not done: the message says why, and nothing is half applied
  2  bad command line: an option, its value, or a variable that stands for it
  3  done, and there are differences (`import`, `parity`)
  4  done, and some rules are not understood (`parity`)
  `exec` exits with the status of its command: see `redirectctl exec --help`.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Redirect a cgroup
    Attach(attach::Attach),
    /// Replace the options of an attached cgroup; no connection meets half of each
    Update(update::Update),
    /// Stop redirecting a cgroup; open connections stay open
    Detach(detach::Detach),
    /// Change the ranges of an attached cgroup, or list them
    Cidr(cidr::Cidr),
    /// Keep the own addresses of attached cgroups current while they change
    Follow(follow::Follow),
    /// Run a command redirected, in a cgroup of its own that is removed afterwards
    Exec(exec::Exec),
    /// Attached cgroups, with their counts
    List(list::List),
    /// One cgroup: its options, and how often each rule matched
    Show(show::Show),
    /// The iptables rules that a cgroup, or given options, stand for
    Rules(rules::Rules),
    /// The options that an injected pod's iptables rules were made of
    Import(import::Import),
    /// Compare what is decided here with what a pod's iptables rules decide
    Parity(parity::Parity),
    /// What is loaded on this machine, and the memory it takes
    Status(status::Status),
    /// Say where a connection would go, and by which rule
    Explain(explain::Explain),
    /// Check what this machine has of what redirection needs, and say what to do about the rest
    Doctor(doctor::Doctor),
    /// A small transparent forwarder, for trying things out without Envoy
    Proxy(proxy::ProxyCommand),
    /// Have every attached cgroup run this version's programs; no connection is missed
    Upgrade(upgrade::Upgrade),
    /// Detach every cgroup and remove every trace, of any version
    Uninstall(uninstall::Uninstall),
    /// Print a completion script for a shell
    Completions(completions::Completions),
    /// Print what the programs log, until interrupted (this is a developer's build)
    #[cfg(feature = "log")]
    Log(log::LogCommand),
}

/// What every subcommand may use.
struct Context<'env> {
    env: &'env mut Env,
    output: Format,
    state_dir: PathBuf,
}

impl Context<'_> {
    /// Prints a result in the format asked for.
    fn print<T: Serialize>(
        &mut self,
        value: &T,
        text: impl FnOnce(Screen) -> String,
    ) -> Result<()> {
        self.env.print(self.output, value, text)
    }
}

/// The command line's definition, for completions, man pages and the documentation.
pub fn command() -> clap::Command {
    Cli::command()
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
    let Cli {
        output,
        bpffs,
        command,
    } = cli;
    let mut context = Context {
        env,
        output,
        state_dir: bpffs,
    };
    match dispatch(command, &mut context) {
        Ok(code) => code,
        Err(error) => {
            context.env.error(&error);
            if is_usage(&error) {
                ExitCode::from(USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The exit status of a bad command line, as clap has it.
const USAGE: u8 = 2;

/// Whether the command line is at fault: an option's value, or a variable that stands for it.
fn is_usage(error: &Error) -> bool {
    let is_argument = |error: &CidrListError| error.errors.iter().all(|bad| bad.line.is_none());
    error.is::<ConfigError>() || error.downcast_ref().is_some_and(is_argument)
}

fn dispatch(command: Command, context: &mut Context<'_>) -> Result<ExitCode> {
    let done = |result: Result<()>| result.map(|()| ExitCode::SUCCESS);
    match command {
        Command::Attach(command) => done(command.run(context)),
        Command::Update(command) => done(command.run(context)),
        Command::Detach(command) => done(command.run(context)),
        Command::Cidr(command) => done(command.run(context)),
        Command::Exec(command) => Ok(command.run(context)),
        Command::List(command) => done(command.run(context)),
        Command::Show(command) => done(command.run(context)),
        Command::Rules(command) => command.run(context),
        Command::Follow(command) => done(command.run(context)),
        Command::Import(command) => command.run(context),
        Command::Parity(command) => command.run(context),
        Command::Status(command) => done(command.run(context)),
        Command::Explain(command) => done(command.run(context)),
        Command::Doctor(command) => command.run(context),
        Command::Proxy(command) => done(command.run(context)),
        Command::Upgrade(command) => done(command.run(context)),
        Command::Uninstall(command) => done(command.run(context)),
        Command::Completions(command) => done(command.run(context)),
        #[cfg(feature = "log")]
        Command::Log(command) => done(command.run(context)),
    }
}
