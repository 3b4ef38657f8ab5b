//! `redirectctl exec`.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use redirect_user::{
    config::{Flags, Inbound, Opt, Resolved},
    node::{ResolvConf, check_netns, find_resolvers},
};

use super::{
    context::Context,
    proxy::ModeArg,
    usage::{USAGE, is_usage},
};
use crate::exec::{CommandResult, ExecCgroup, ForwarderOptions, run};

/// The exit status if the command could not be started with redirection.
const NOT_STARTED: u8 = 125;

#[derive(Args, Debug)]
#[command(after_help = "\
The command runs as the caller, in a new cgroup below the caller's. The cgroup
is removed when the command ends, also by a signal. Unlike with `attach`, all
outbound connections are redirected without -i, also those of IPv6 unless
--dual-stack=false is given. Inbound connections are left alone.

Redirected connections go to the proxy's port on loopback. --with-proxy starts
a proxy beside the command. Without it, a proxy must listen at that port in the
command's cgroup, or the connections are refused. After the end of the command,
the proxy has a fifth of a second to read the original destinations of the last
connections.

Exit status:
  the status of the command; 128+N if signal N ended it
  125  the command could not be started with redirection
  126  the command could not be run
  127  the command was not found

Examples:
  redirectctl exec --with-proxy allow-any -- curl http://example.com/
  redirectctl exec --with-proxy registry-only -- curl http://example.com/
  redirectctl exec --with-proxy allow-any -x 10.0.0.0/8 -- \\
    curl http://example.com/")]
pub(super) struct Exec {
    /// Start the built-in forwarder beside the command (see `redirectctl proxy`)
    #[arg(long, value_name = "MODE")]
    with_proxy: Option<ModeArg>,
    /// Registry of the forwarder in registry-only mode
    #[arg(long, value_name = "FILE", requires = "with_proxy")]
    registry: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    /// The command and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
}

impl Exec {
    pub(super) fn run(self, context: &mut Context<'_>) -> ExitCode {
        match self.execute(context) {
            Ok(CommandResult { status, problem }) => {
                if let Some(problem) = problem {
                    context.env.error(&problem);
                }
                ExitCode::from(status)
            }
            Err(error) => {
                context.env.error(&error);
                ExitCode::from(if is_usage(&error) { USAGE } else { NOT_STARTED })
            }
        }
    }

    fn execute(self, context: &mut Context<'_>) -> Result<CommandResult> {
        let Self {
            with_proxy,
            registry,
            mut flags,
            command,
        } = self;
        let defaults = Flags::from_iter([(Opt::Include, "*"), (Opt::DualStack, "true")]);
        flags.keep(&defaults, &context.env.variables);
        let Resolved {
            mut config,
            mut warnings,
        } = context.resolve(&flags)?;
        warnings.extend(find_resolvers(&mut config, ResolvConf::Own)?);
        if !config.inbound.is_none() {
            // Other processes serve in the caller's namespace, too.
            config.inbound = Inbound::default();
            warnings.push("-b: the command shares its network namespace with other processes: inbound connections are left alone".to_owned());
        }
        let cgroup = ExecCgroup::new(&context.state_dir)?;
        let forwarder = match with_proxy {
            Some(mode) => Some(ForwarderOptions {
                port: config.out_port,
                uid: cgroup.netns().ids.uid(config.proxy_uids.first())?,
                gid: cgroup.netns().ids.gid(config.proxy_gids.first())?,
                registry_only: mode == ModeArg::RegistryOnly,
                registry,
            }),
            None => None,
        };
        let cautions = check_netns(&config, cgroup.netns());
        warnings.extend(cautions.iter().map(ToString::to_string));
        context.warn(&warnings);
        run(&cgroup, &config, forwarder.as_ref(), &command)
    }
}
