//! `redirectctl exec`.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use redirect_user::{
    config::{Flags, Inbound, Opt, Resolved},
    node::{Asker, find_resolvers},
};

use super::{Context, options::cautions, proxy::ModeArg};
use crate::exec::{Ended, Sandbox, Sidecar, run};

/// Exit status if the command could not be started redirected.
const NOT_STARTED: u8 = 125;

/// The arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
The command runs as the caller, in a new cgroup below the caller's, and everything is removed when
it ends, also by a signal. Unlike `attach`, without -i everything is redirected, and without
--dual-stack=false IPv6 as well.

Redirected connections go to the proxy's port on loopback. With --with-proxy one is started beside
the command; without it, a proxy must listen in the command's cgroup or they are refused.

Examples:
  redirectctl exec --with-proxy allow-any -x 36.152.44.0/24 -- curl http://36.152.44.96/
  redirectctl exec -p 15001 -- ./start-envoy-and-test.sh")]
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
                ExitCode::from(NOT_STARTED)
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
        let is_set = |option: Opt| {
            let mut variables = option.variables().into_iter();
            variables.any(|name| context.env.variables.get(&name).is_some())
        };
        if flags.include.is_none() && !is_set(Opt::Include) {
            flags.include = Some("*".to_owned());
        }
        if flags.dual_stack.is_none() && !is_set(Opt::DualStack) {
            flags.dual_stack = Some(true);
        }
        let Resolved {
            mut config,
            mut warnings,
        } = context.resolve(&flags)?;
        warnings.extend(find_resolvers(&mut config, Asker::Own)?);
        if !config.inbound.is_none() {
            // The namespace is the caller's, and not for the command to answer for.
            config.inbound = Inbound::default();
            warnings.push("-b: the command shares its network namespace with others: inbound connections are left alone".to_owned());
        }
        let sandbox = Sandbox::new(&context.owner)?;
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
        warnings.extend(cautions(&config, sandbox.netns()));
        context.warn(&warnings);
        run(&sandbox, &config, sidecar.as_ref(), &command)
    }
}
