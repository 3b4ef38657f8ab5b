//! The subcommand `install-cni`.

use std::{env::current_exe, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Args, value_parser};
use redirect_cni::config::{SOCKET, TIMEOUT};
use redirect_user::console::Env;

use super::log::LogArg;
use crate::cni::install::{Change, CniDirs, Entry, install, remove, watch};

/// Arguments of `install-cni`.
#[derive(Args, Debug)]
#[command(after_help = "\
The entry is appended to the configuration that container runtimes use, the first of the directory by
name, and applies from the next pod on. Repeating the command changes nothing. When the network's own
installer replaces its configuration, the command has to be repeated, which --watch does.

Examples:
  redirect-agent install-cni --exclude-namespace kube-system
  redirect-agent install-cni --watch
  redirect-agent install-cni --remove")]
pub(super) struct InstallCni {
    /// Directory of the container runtime's network configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    conf_dir: PathBuf,
    /// Directory of the container runtime's plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    bin_dir: PathBuf,
    /// Program of the plugin [default: redirect-cni beside this program]
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Socket of the agent: its --cni-socket
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
    /// Time limit for the agent to attach a pod; with less than the default, the agent may not get to report
    /// why it failed
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT, value_parser = value_parser!(u64).range(1..))]
    timeout: u64,
    /// Let pods start without redirection if the agent cannot redirect them
    #[arg(long)]
    fail_open: bool,
    /// Namespace whose pods start also without an agent; can be repeated
    #[arg(long, value_name = "NAME")]
    exclude_namespace: Vec<String>,
    /// Keep running, and install again whenever the configuration is replaced
    #[arg(long)]
    watch: bool,
    /// Remove the plugin
    #[arg(long, conflicts_with_all = ["plugin", "socket", "timeout", "fail_open", "exclude_namespace", "watch"])]
    remove: bool,
    #[command(flatten)]
    log: LogArg,
}

impl InstallCni {
    pub(super) fn run(self, env: &mut Env) -> Result<ExitCode> {
        let dirs = CniDirs {
            conf: self.conf_dir,
            bin: self.bin_dir,
        };
        let changes = if self.remove {
            remove(&dirs)?
        } else {
            let plugin = match self.plugin {
                Some(plugin) => plugin,
                None => current_exe()
                    .context("find this program")?
                    .with_file_name("redirect-cni"),
            };
            let entry = Entry {
                socket: self.socket,
                timeout: self.timeout,
                fail_open: self.fail_open,
                exclude_namespaces: self.exclude_namespace,
            };
            if self.watch {
                self.log.start();
                watch(&dirs, &plugin, &entry)?;
                return Ok(ExitCode::SUCCESS);
            }
            install(&dirs, &plugin, &entry)?
        };
        if changes.is_empty() {
            writeln!(env.stdout, "nothing to change").context("print the result")?;
        }
        for Change { verb, path } in changes {
            writeln!(env.stdout, "{verb} {}", path.display()).context("print the result")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
