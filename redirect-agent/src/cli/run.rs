//! The subcommand `run`.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;
use redirect_user::{
    console::Env,
    sys::{capability, open_files},
};

use super::{exit_status::INCOMPLETE, log::LogArg, source::SourceArg};
use crate::run::{Completion, Options, run};

/// Arguments of `run`.
#[derive(Args, Debug)]
#[command(after_help = "\
The agent can be stopped, killed and replaced at any time: attachments stay, and traffic stays
redirected. A new agent adopts them.

Examples:
  redirect-agent run --folder /etc/redirect-agent/workloads
  redirect-agent run --once
  redirect-agent run --source kube --node-name worker-3 --kubeconfig ~/.kube/config
  redirect-agent run --metrics-listen 127.0.0.1:15092 --log json")]
pub(super) struct Run {
    #[command(flatten)]
    source: SourceArg,
    /// Serve /metrics, /healthz and /readyz at this address
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_listen: Option<SocketAddr>,
    /// Listen for the CNI plugin at this socket, such as /run/redirect-agent/cni.sock; needs `--source kube`
    #[arg(long, value_name = "PATH")]
    cni_socket: Option<PathBuf>,
    /// Warn if a proxy does not listen this many seconds after its workload was attached or changed
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    proxy_grace: u32,
    /// Apply the descriptions once, and end
    #[arg(long, conflicts_with_all = ["cni_socket", "detach_on_exit", "metrics_listen"])]
    once: bool,
    /// Detach everything at SIGTERM and SIGINT
    #[arg(long)]
    detach_on_exit: bool,
    #[command(flatten)]
    log: LogArg,
}

impl Run {
    pub(super) fn run(self, bpffs: PathBuf, env: &Env) -> Result<ExitCode> {
        capability::require(&capability::NEEDED)?;
        self.log.start();
        open_files::raise_limit()?;
        let options = Options {
            state_dir: bpffs,
            listen: self.metrics_listen,
            cni_socket: self.cni_socket,
            proxy_grace: Duration::from_secs(self.proxy_grace.into()),
            once: self.once,
            detach_on_exit: self.detach_on_exit,
        };
        let node = self.source.node(env);
        let completion = run(self.source.open(node), &options)?;
        Ok(match completion {
            Completion::Complete => ExitCode::SUCCESS,
            Completion::Incomplete => ExitCode::from(INCOMPLETE),
        })
    }
}
