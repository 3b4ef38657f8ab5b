//! `redirectctl proxy`.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use redirect_user::{console::Format, sys::credentials};

use super::context::Context;
use crate::proxy::{Mode, Options, Record, Registry, run};

#[derive(Args, Debug)]
#[command(after_help = "\
The forwarder stands in for Envoy in demonstrations and first steps. It reads
SO_ORIGINAL_DST of each connection and dials that destination itself, or closes
the connection, as in Istio's modes ALLOW_ANY and REGISTRY_ONLY.

The forwarder must run in the redirected cgroup, as the user that is exempt (-u
of `attach`). Started as root, it becomes that user.

For inbound connections (-b of `attach`), run a second forwarder at that port
as any other user: connections of the proxy's user to its own pod are
redirected to the same port again. Envoy's connections are exempt by their
source address, 127.0.0.6 or ::6, which this forwarder does not use.

Each connection is one line of output, when it ends:
  forwarded   connected to its original destination
  blackholed  closed: the destination is not in the registry (registry-only)
  refused     closed: the destination did not accept the connection
  loop        closed: it was made to the forwarder itself, or by it
  unknown     closed: the kernel does not know its original destination

Examples:
  redirectctl proxy --mode allow-any
  echo 36.152.44.96:80 > hosts.txt
  redirectctl proxy --mode registry-only --registry hosts.txt
  redirectctl proxy --listen 15006 --uid 0")]
pub(super) struct ProxyCommand {
    /// Port to listen on, on every address
    #[arg(long, value_name = "PORT", default_value_t = 15001)]
    listen: u16,
    /// Destinations of the forwarder
    #[arg(long, value_name = "MODE", default_value = "allow-any")]
    mode: ModeArg,
    /// For registry-only: file with one ADDR[:PORT] or CIDR[:PORT] a line; `#` starts a comment
    #[arg(long, value_name = "FILE")]
    registry: Option<PathBuf>,
    /// User that the forwarder becomes if started as root
    #[arg(long, value_name = "UID", default_value_t = 1337)]
    uid: u32,
    /// Group that the forwarder becomes if started as root
    #[arg(long, value_name = "GID", default_value_t = 1337)]
    gid: u32,
}

/// The name of a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ModeArg {
    /// All destinations
    AllowAny,
    /// Registered destinations; other connections are closed
    RegistryOnly,
}

impl ModeArg {
    /// Reads the registry of the mode from its file. Without a file the registry is empty.
    fn read(self, registry: Option<&PathBuf>) -> Result<Mode> {
        match self {
            Self::AllowAny => Ok(Mode::AllowAny),
            Self::RegistryOnly => {
                let Some(path) = registry else {
                    return Ok(Mode::RegistryOnly(Registry::default()));
                };
                let read = || format!("read registry \"{}\"", path.display());
                let text = fs::read_to_string(path).with_context(read)?;
                Ok(Mode::RegistryOnly(
                    Registry::parse(&text).with_context(read)?,
                ))
            }
        }
    }
}

impl ProxyCommand {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let Self {
            listen: port,
            mode,
            registry,
            uid,
            gid,
        } = self;
        let mode = mode.read(registry.as_ref())?;
        let json = context.output == Format::Json;
        let ready = || {
            if credentials::is_root() {
                credentials::drop_to(uid, gid)?;
            }
            let mut stdout = io::stdout().lock();
            if json {
                writeln!(stdout, "{{\"listening\":{port}}}")?;
            } else {
                writeln!(stdout, "listening on port {port}\n{}", Record::HEADER)?;
            }
            stdout.flush()
        };
        let log = move |record: &Record| {
            let mut stdout = io::stdout().lock();
            // A closed output is no reason to stop forwarding.
            drop(if json {
                serde_json::to_string(record)
                    .map_err(io::Error::from)
                    .and_then(|line| writeln!(stdout, "{line}"))
            } else {
                writeln!(stdout, "{record}")
            });
        };
        let totals = run(Options { port, mode }, ready, log)?;
        context.print(&totals, |_| {
            format!(
                "{} forwarded, {} blackholed, {} refused\n",
                totals.forwarded, totals.blackholed, totals.refused
            )
        })
    }
}
