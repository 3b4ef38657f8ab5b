// SPDX-License-Identifier: MIT OR Apache-2.0
//! The real Envoy as a pod's sidecar, with the listeners that Istio gives it.
//!
//! Envoy runs as uid and gid 1337 in the pod's `istio-proxy` cgroup, and needs no file but its binary: the
//! bootstrap is on the command line.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use serde_json::Value;

use super::{admin::admin, bootstrap, stats::EnvoyStats};
use crate::{
    identity::Identity, outbound::OutboundPolicy, pod::Pod, process::Process, wait::wait_until,
    worker::Worker,
};

/// The folder where `cargo xtask setup` puts Envoy's Python package.
const INSTALLED: &str = "/var/cache/redirect-ebpf/envoy-1.40.0/lib";
/// The variable that names another binary.
const VARIABLE: &str = "ENVOY";
/// The time that Envoy may take to start: a tenth of a second usually, longer on an emulated machine.
const STARTING: Duration = Duration::from_mins(1);

/// A running Envoy. Dropping it kills Envoy.
#[derive(Debug)]
pub struct Envoy {
    worker: Worker,
    process: Process,
}

impl Envoy {
    /// The cluster of connections that `ALLOW_ANY` passes on.
    pub const PASSTHROUGH: &str = bootstrap::PASSTHROUGH;
    /// The cluster of connections that are closed.
    pub const BLACK_HOLE: &str = bootstrap::BLACK_HOLE;
    /// The registered service's cluster under `REGISTRY_ONLY`.
    pub const REGISTERED: &str = bootstrap::REGISTERED;

    /// Finds the binary: the one that the variable `ENVOY` names, or the one that `cargo xtask setup` installed.
    pub fn binary() -> Result<PathBuf> {
        env::var_os(VARIABLE)
            .map(PathBuf::from)
            .or_else(|| installed(Path::new(INSTALLED)))
            .filter(|path| path.is_file())
            .ok_or_else(|| {
                anyhow!(
                    "find Envoy: it is not installed; run `cargo xtask setup --for test`, or set {VARIABLE} to its binary"
                )
            })
    }

    /// Starts Envoy in the pod and waits until it is ready.
    ///
    /// Envoy listens at 15001 and 15006 of both families. Port 80 (under `REGISTRY_ONLY` the registered service's
    /// port) is treated as HTTP, every other port as plain TCP.
    pub fn start(pod: &Pod, policy: &OutboundPolicy) -> Result<Self> {
        let binary = Self::binary()?;
        let worker = pod.worker(&Identity::proxy())?;
        let argv = argv(&binary.to_string_lossy(), &bootstrap::bootstrap(policy));
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let process = worker.start(&argv, "")?;
        let envoy = Self { worker, process };
        envoy.wait_until_ready()?;
        Ok(envoy)
    }

    /// The command line of an Envoy that passes everything and uses the PROXY protocol on every upstream
    /// connection: see [`crate::Behaviour::ProxyProtocol`]. For callers that start Envoy in another way.
    pub fn proxy_protocol_argv(binary: &str) -> Vec<String> {
        argv(binary, &bootstrap::proxy_protocol())
    }

    /// The value of a counter or gauge, by its full name; 0 if Envoy has not used it yet.
    pub fn counter(&self, name: &str) -> Result<u64> {
        self.stats()?.counter(name)
    }

    /// The number of connections that Envoy has opened for a cluster, such as [`Envoy::PASSTHROUGH`].
    pub fn connections(&self, cluster: &str) -> Result<u64> {
        self.stats()?.connections(cluster)
    }

    /// The number of connections that found no host in a cluster, and were closed: see [`Envoy::BLACK_HOLE`].
    pub fn turned_away(&self, cluster: &str) -> Result<u64> {
        self.stats()?.turned_away(cluster)
    }

    /// The number of connections that a capture listener has accepted, for example `0.0.0.0_15001`.
    pub fn accepted(&self, listener: &str) -> Result<u64> {
        self.stats()?.accepted(listener)
    }

    /// Gets a page of the admin interface.
    pub fn admin(&self, path: &str) -> Result<String> {
        admin(&self.worker, path)
    }

    fn stats(&self) -> Result<EnvoyStats> {
        EnvoyStats::of(&self.worker)
    }

    /// The log of Envoy so far.
    pub fn log(&self) -> Result<String> {
        self.worker.log(self.process)
    }

    /// The worker that started Envoy: a process with the sidecar's identity.
    pub const fn worker(&self) -> &Worker {
        &self.worker
    }

    fn wait_until_ready(&self) -> Result<()> {
        let mut is_alive = true;
        let is_ready = wait_until(STARTING, || {
            is_alive = self.worker.is_alive(self.process).unwrap_or(false);
            !is_alive
                || self
                    .admin("/ready")
                    .is_ok_and(|page| page.starts_with("LIVE"))
        });
        if is_ready && is_alive {
            return Ok(());
        }
        let problem = if is_alive {
            "does not become ready"
        } else {
            "has ended"
        };
        bail!(
            "start Envoy: it {problem}:\n{}",
            self.log().unwrap_or_default()
        )
    }
}

fn argv(binary: &str, bootstrap: &Value) -> Vec<String> {
    let bootstrap = bootstrap.to_string();
    let argv = [
        binary,
        "--config-yaml",
        &bootstrap,
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "warning",
    ];
    argv.map(str::to_owned).to_vec()
}

/// Finds `lib/python3.N/site-packages/envoy/_bin/envoy` for any N.
fn installed(lib: &Path) -> Option<PathBuf> {
    let is_python = |name: &OsString| name.to_string_lossy().starts_with("python3");
    fs::read_dir(lib)
        .ok()?
        .flatten()
        .filter(|entry| is_python(&entry.file_name()))
        .map(|entry| entry.path().join("site-packages/envoy/_bin/envoy"))
        .find(|path| path.is_file())
}
