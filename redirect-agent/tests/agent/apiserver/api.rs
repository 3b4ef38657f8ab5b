//! A client of an API server.

use std::path::Path;

use anyhow::{Context as _, Result};
use hyper::Request;
use kube::{Client, Error};
use redirect_agent::source::kube::client;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::agent_process::in_network;

/// A client of an API server.
pub(crate) struct Api {
    client: Client,
    runtime: Runtime,
    /// Name of the network namespace of its connections, if that is not this process's.
    network: Option<String>,
}

impl Api {
    /// A client with this kubeconfig.
    pub(crate) fn new(kubeconfig: &Path) -> Result<Self> {
        Self::in_netns(None, kubeconfig)
    }

    /// A client with this kubeconfig, in a network namespace.
    pub(crate) fn in_netns(network: Option<String>, kubeconfig: &Path) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(client(Some(kubeconfig)))?;
        Ok(Self {
            client,
            runtime,
            network,
        })
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        self.send("GET", path, None)
    }

    /// Reads a resource that is not JSON.
    pub(crate) fn text(&self, path: &str) -> Result<String> {
        let request = self.client.request_text(request("GET", path, None)?);
        Ok(self.wait(request)??)
    }

    /// Creates an object.
    pub(crate) fn create(&self, object: &Value) -> Result<Value> {
        self.send("POST", &collection(object)?, Some(object))
    }

    /// Creates a subresource of an object: `…/binding`, `…/token`.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send("POST", path, Some(body))
    }

    /// Changes an object; null removes a key.
    pub(crate) fn patch(&self, path: &str, change: &Value) -> Result<Value> {
        self.send("PATCH", path, Some(change))
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Value> {
        self.send("DELETE", path, None)
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let request = self.client.request(request(method, path, body)?);
        let answer: Result<Value, Error> = self.wait(request)?;
        answer.with_context(|| format!("{method} {path}"))
    }

    fn wait<T: Send>(&self, request: impl Future<Output = T> + Send) -> Result<T> {
        in_network(self.network.as_deref(), || self.runtime.block_on(request))
    }
}

fn request(method: &str, path: &str, body: Option<&Value>) -> Result<Request<Vec<u8>>> {
    let content = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = Request::builder().method(method).uri(path);
    Ok(request
        .header("Content-Type", content)
        .body(body.into_bytes())?)
}

/// Path of the collection of an object.
fn collection(object: &Value) -> Result<String> {
    let version = object["apiVersion"].as_str().context("a version")?;
    let kind = object["kind"].as_str().context("a kind")?.to_lowercase();
    let group = if version.contains('/') { "apis" } else { "api" };
    let namespace = object["metadata"]["namespace"].as_str();
    let within = namespace.map(|name| format!("/namespaces/{name}"));
    let within = within.unwrap_or_default();
    Ok(format!("/{group}/{version}{within}/{kind}s"))
}
