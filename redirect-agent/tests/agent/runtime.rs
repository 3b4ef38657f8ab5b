//! A container runtime that calls the real CNI plugin.
#![expect(
    clippy::disallowed_methods,
    reason = "the plugin is run as a container runtime runs it"
)]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::Pod;
use serde_json::{Value, json};

use crate::{agent_process::Agent, kube::KubeNode, node::Node};

/// The plugin's program, built beside the agent's.
pub(crate) fn plugin() -> Result<PathBuf> {
    let agent = Path::new(env!("CARGO_BIN_EXE_redirect-agent"));
    let plugin = agent.with_file_name("redirect-cni");
    let built = plugin.try_exists()?;
    ensure!(
        built,
        "{}: run `cargo build -p redirect-cni` first",
        plugin.display()
    );
    Ok(plugin)
}

/// Output of the plugin.
#[derive(Debug)]
pub(crate) struct Ran {
    is_success: bool,
    stdout: String,
}

impl Ran {
    /// Whether ADD succeeded, with the result of the previous plugin.
    pub(crate) fn is_added(&self) -> bool {
        let output = serde_json::from_str(&self.stdout);
        self.is_success && output.is_ok_and(|output: Value| output == previous())
    }

    /// Whether the call succeeded without a result.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.is_success && self.stdout.is_empty()
    }

    /// Code and details of the error.
    pub(crate) fn error(&self) -> Result<(u64, String)> {
        ensure!(!self.is_success, "{self:?}");
        let output: Value = serde_json::from_str(&self.stdout)?;
        let code = output["code"].as_u64().context("a number")?;
        Ok((code, output["details"].to_string()))
    }
}

pub(crate) fn previous() -> Value {
    json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0"}], "ips": [{"address": "10.77.0.2/24"}]})
}

/// A sandbox, as a runtime knows it.
pub(crate) struct Sandbox {
    /// Name of the pod, in the namespace `shop`.
    name: String,
    uid: String,
    id: String,
    netns: PathBuf,
}

impl Sandbox {
    pub(crate) fn new(uid: &str, id: &str, netns: impl Into<PathBuf>) -> Self {
        Self {
            name: uid.to_owned(),
            uid: uid.to_owned(),
            id: id.to_owned(),
            netns: netns.into(),
        }
    }

    /// The same sandbox, of a pod with another name than its uid.
    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    pub(crate) fn of(uid: &str, pod: &Pod) -> Self {
        Self::new(uid, pod.name(), pod.namespace())
    }

    /// A sandbox whose namespace has gone already.
    pub(crate) fn gone(uid: &str, id: &str) -> Self {
        Self::new(uid, id, "")
    }
}

impl KubeNode {
    pub(crate) fn start_with_socket(&self) -> Agent {
        let agent = self.start_with(&["--cni-socket", &self.node.socket().to_string_lossy()]);
        agent.until_ready();
        agent
    }

    pub(crate) fn call(&self, command: &str, uid: &str, pod: &Pod) -> Result<Ran> {
        self.call_about(command, &Sandbox::of(uid, pod), &json!({}))
    }

    /// Calls the plugin as a runtime does, with further keys in the conflist's entry.
    pub(crate) fn call_about(&self, command: &str, sandbox: &Sandbox, more: &Value) -> Result<Ran> {
        call(&self.node, command, sandbox, more)
    }
}

/// Calls the plugin of a node.
pub(crate) fn call(node: &Node, command: &str, sandbox: &Sandbox, more: &Value) -> Result<Ran> {
    let Sandbox {
        name,
        uid,
        id,
        netns,
    } = sandbox;
    let mut config = json!({
        "cniVersion": "1.1.0", "name": "pods", "type": "redirect-cni",
        "socket": node.socket(), "prevResult": previous(),
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    let mut plugin = Command::new(plugin()?);
    plugin
        .env_clear()
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", id)
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", "/opt/cni/bin")
        .env(
            "CNI_ARGS",
            format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name};K8S_POD_UID={uid}"),
        );
    feed(plugin, &config)
}

pub(crate) fn feed(mut plugin: Command, config: &Value) -> Result<Ran> {
    let mut child = plugin
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("its input")?;
    stdin.write_all(config.to_string().as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    Ok(Ran {
        is_success: output.status.success(),
        stdout: String::from_utf8(output.stdout)?,
    })
}
