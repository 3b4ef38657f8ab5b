//! `cargo xtask demo`: builds the release binaries, and runs redirectctl's example `demo`.

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::{
    command::{self, cargo},
    setup::{self, Purpose},
    workspace,
};

/// Show redirection working on a pod made for the purpose, row by row.
///
/// The demo makes a cgroup and network namespaces, so it needs root. It removes all of them at the end.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask demo
  cargo xtask demo --proxy envoy")]
pub(crate) struct Args {
    /// The proxy that connections are redirected to
    #[arg(long, value_enum, default_value_t = Proxy::Builtin)]
    proxy: Proxy,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Proxy {
    /// redirectctl's own small forwarder: nothing to install
    Builtin,
    /// An unmodified Envoy
    Envoy,
}

/// Sets up what is missing, builds, and hands over to the example.
pub(crate) fn run(args: &Args) -> Result<()> {
    // First, because "permission denied" after minutes of building is a waste of time.
    if !workspace::is_root() {
        bail!("run demo: it attaches BPF programs and makes network namespaces: run it as root");
    }
    let (purpose, proxy) = match args.proxy {
        Proxy::Builtin => (Purpose::Demo, "builtin"),
        Proxy::Envoy => (Purpose::DemoEnvoy, "envoy"),
    };
    setup::ensure(purpose)?;

    let package = ["--release", "--package", "redirectctl"];
    // `cargo run` would not build redirectctl, which the demo starts.
    command::run(
        cargo(["build"])
            .args(package)
            .args(["--bins", "--example", "demo"]),
    )?;
    command::run(cargo(["run", "--quiet"]).args(package).args([
        "--example",
        "demo",
        "--",
        "--proxy",
        proxy,
    ]))
}
