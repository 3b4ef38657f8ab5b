//! The network's configuration, as JSON on standard input.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::{CniError, Code};

/// Newest supported version of the specification.
pub const NEWEST: &str = "1.1.0";
/// Supported versions of the specification, oldest first.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", NEWEST];

/// Default of `socket`.
pub const SOCKET: &str = "/run/redirect-agent/cni.sock";
/// Default of `timeoutSeconds`.
pub const TIMEOUT: u64 = 30;

/// The plugin's entry in the conflist, with the keys that the runtime adds.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// Version of the specification that the runtime speaks.
    #[serde(rename = "cniVersion", default = "oldest")]
    pub version: String,
    /// Result of the previous plugin. Absent for `VERSION`, `STATUS` and `GC`.
    #[serde(rename = "prevResult")]
    pub previous: Option<Value>,
    /// Socket of the agent.
    #[serde(default = "socket")]
    pub socket: PathBuf,
    /// Time limit for the agent to attach a pod, in seconds.
    #[serde(rename = "timeoutSeconds", default = "timeout")]
    timeout: u64,
    /// Whether a pod starts without redirection if the agent cannot attach it, or does not answer.
    #[serde(rename = "failOpen", default)]
    pub fail_open: bool,
    /// Namespaces whose pods start without asking the agent: they start also without an agent.
    #[serde(rename = "excludeNamespaces", default)]
    pub exclude_namespaces: Vec<String>,
    /// `GC`: the sandboxes that there are. `None` if the runtime does not list them: libcni omits the key
    /// then (`GCNetworkList` without arguments).
    #[serde(
        rename = "cni.dev/valid-attachments",
        default,
        deserialize_with = "list_or_null"
    )]
    pub valid_attachments: Option<Vec<Attachment>>,
}

/// An interface of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Attachment {
    /// Container id of the sandbox.
    #[serde(rename = "containerID")]
    pub container_id: String,
}

fn oldest() -> String {
    // The meaning of a configuration without a version (CNI specification 0.4.0, "Network Configuration"):
    // one of the first versions, which this plugin does not support.
    "0.2.0".to_owned()
}

fn socket() -> PathBuf {
    SOCKET.into()
}

/// The list of a key that is present. CRI-O passes libcni a nil list if nothing runs, and Go writes that as
/// `null`.
fn list_or_null<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Vec<Attachment>>, D::Error> {
    let list = Option::<Vec<Attachment>>::deserialize(value)?;
    Ok(Some(list.unwrap_or_default()))
}

const fn timeout() -> u64 {
    TIMEOUT
}

impl Config {
    /// Reads a configuration of any version.
    pub fn read(text: &str) -> Result<Self, CniError> {
        serde_json::from_str(text)
            .map_err(|error| CniError::new(Code::Decoding, "read the network configuration", error))
    }

    /// Refuses a version that is not supported.
    pub fn check_version(&self) -> Result<(), CniError> {
        if VERSIONS.contains(&self.version.as_str()) {
            return Ok(());
        }
        let details = format!(
            "\"{}\" is not supported: set it to one of {}",
            self.version,
            VERSIONS.join(", ")
        );
        Err(CniError::new(
            Code::IncompatibleVersion,
            "read \"cniVersion\"",
            details,
        ))
    }

    /// Time limit for the agent to answer.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}
