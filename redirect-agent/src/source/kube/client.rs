//! The client of the API server.

use std::path::Path;

use anyhow::{Context as _, Result};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// A client for the current context of a kubeconfig, or for the cluster of the agent's own pod. Must be
/// called in the tokio runtime that uses it.
pub async fn client(kubeconfig: Option<&Path>) -> Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let read = || format!("read kubeconfig \"{}\"", path.display());
            let file = Kubeconfig::read_from(path).with_context(read)?;
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(file, &options).await;
            config.with_context(read)?
        }
        None => Config::incluster()
            .context("find the API server of this pod's cluster (--kubeconfig names another)")?,
    };
    // The callers retry by themselves, and report the reason.
    config.default_retry = false;
    Client::try_from(config).context("create a client of the API server")
}
