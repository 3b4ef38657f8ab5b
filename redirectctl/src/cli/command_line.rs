//! The command line: its definition, and running it.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use redirect_user::{
    bpf::Pins,
    console::{Env, Format},
    sys::dir_lock::DirLock,
};

#[cfg(feature = "log")]
use super::log;
use super::{
    attach, cidr, completions,
    context::Context,
    detach, doctor, exec, explain, follow, import, list, parity, proxy, rules, show, status,
    uninstall, update, upgrade,
    usage::{USAGE, is_usage},
};

/// Redirects a pod's connections to its proxy with eBPF, in place of Istio's iptables rules.
#[derive(Debug, Parser)]
#[command(name = "redirectctl", version, propagate_version = true, max_term_width = 80, after_help = AFTER_HELP)]
struct Cli {
    /// Format of the results
    #[arg(long, global = true, value_name = "FORMAT", default_value = "table", help_heading = GLOBAL, display_order = 1000)]
    output: Format,

    /// State directory, a folder on a BPF file system
    #[arg(long, global = true, value_name = "DIR", default_value = Pins::DEFAULT_STATE_DIR, help_heading = GLOBAL, display_order = 1000)]
    bpffs: PathBuf,

    /// Wait at most this long for another process that changes the state
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = DirLock::PATIENCE.as_secs(), help_heading = GLOBAL, display_order = 1000)]
    lock_timeout: u64,

    #[command(subcommand)]
    command: Command,
}

/// The heading of the options that every subcommand has. They follow its own options.
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
  1  not done: the message gives the reason, and nothing is half applied
  2  wrong command line: an option, its value, or a variable that stands for it
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
    /// Keep the local addresses of attached cgroups current while they change
    Follow(follow::Follow),
    /// Run a command with redirection, in a cgroup of its own that is removed afterwards
    Exec(exec::Exec),
    /// List attached cgroups, with their counters
    List(list::List),
    /// Show the options of a cgroup, and the number of hits of each rule
    Show(show::Show),
    /// Print the iptables rules that a cgroup, or given options, stand for
    Rules(rules::Rules),
    /// Print the options that the iptables rules of an injected pod were made of
    Import(import::Import),
    /// Compare the decisions of a cgroup, or of given options, with those of iptables rules
    Parity(parity::Parity),
    /// Show the loaded programs and maps, and their memory
    Status(status::Status),
    /// Say where a connection would go, and by which rule
    Explain(explain::Explain),
    /// Check that this machine has everything that redirection needs
    Doctor(doctor::Doctor),
    /// Run a small transparent forwarder, for first steps without Envoy
    Proxy(proxy::ProxyCommand),
    /// Replace the programs of attached cgroups by this version's; no connection is missed
    Upgrade(upgrade::Upgrade),
    /// Detach every cgroup and remove all state, of any version
    Uninstall(uninstall::Uninstall),
    /// Print a completion script for a shell
    Completions(completions::Completions),
    /// Print the log of the programs, until interrupted (this is a developer's build)
    #[cfg(feature = "log")]
    Log(log::LogCommand),
}

/// The definition of the command line, for completions and the documentation.
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
        lock_timeout,
        command: subcommand,
    } = cli;
    let mut context = Context {
        env,
        output,
        state_dir: bpffs,
        lock_timeout: Duration::from_secs(lock_timeout),
        definition: command,
    };
    match dispatch(subcommand, &mut context) {
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
