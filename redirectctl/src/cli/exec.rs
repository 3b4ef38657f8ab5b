//! `redirectctl exec`.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use redirect_user::{
    config::{Flags, Inbound, Opt, Resolved},
    node::{ResolvConf, check_netns, find_resolvers},
};

use super::{Context, USAGE, is_usage, proxy::ModeArg};
use crate::exec::{Ended, ExecCgroup, Sidecar, run};

/// Exit status if the command could not be started redirected.
const NOT_STARTED: u8 = 125;

/// The arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
The command runs as the caller, in a new cgroup below the caller's, and
everything is removed when it ends, also by a signal. Unlike `attach`, without
-i everything is redirected, and without --dual-stack=false IPv6 as well.

Redirected connections go to the proxy's port on loopback. With --with-proxy
one is started beside the command; without it, a proxy must listen in the
command's cgroup or they are refused. After the command, the proxy is given a
fifth of a second to ask about the connections that were redirected last.

Exit status:
  that of the command; 128+N if signal N ended it
  125  the command could not be started redirected
  126  the command could not be run
  127  the command was not found

Examples:
  redirectctl exec --with-proxy allow-any -- curl http://example.com/
  redirectctl exec --with-proxy registry-only -- curl http://example.com/
  redirectctl exec -x 10.0.0.0/8 -- ./start-envoy-and-test.sh")]
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
            Ok(Ended { status, problem }) => {
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

    fn execute(self, context: &mut Context<'_>) -> Result<Ended> {
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
            // The namespace is the caller's, and not for the command to answer for.
            config.inbound = Inbound::default();
            warnings.push("-b: the command shares its network namespace with others: inbound connections are left alone".to_owned());
        }
        let sandbox = ExecCgroup::new(&context.state_dir)?;
        let sidecar = match with_proxy {
            Some(mode) => Some(Sidecar {
                port: config.out_port,
                uid: sandbox.netns().ids.uid(config.proxy_uids.first())?,
                gid: sandbox.netns().ids.gid(config.proxy_gids.first())?,
                registry_only: mode == ModeArg::RegistryOnly,
                registry,
            }),
            None => None,
        };
        let cautions = check_netns(&config, sandbox.netns());
        warnings.extend(cautions.iter().map(ToString::to_string));
        context.warn(&warnings);
        run(&sandbox, &config, sidecar.as_ref(), &command)
    }
}
