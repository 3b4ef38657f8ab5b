//! The network's configuration: JSON on standard input.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::{CniError, Code};

/// The newest version of the specification that is known.
pub const NEWEST: &str = "1.1.0";
/// The versions that are known, oldest first.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", NEWEST];

/// Where the agent listens if the configuration does not say.
pub const SOCKET: &str = "/run/redirect-agent/cni.sock";
/// How long the agent may take if the configuration does not say, in seconds.
pub const TIMEOUT: u64 = 30;

/// The plugin's entry in the conflist, with what the runtime adds to it.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// The version of the specification that the runtime speaks.
    #[serde(rename = "cniVersion", default = "oldest")]
    pub version: String,
    /// What the plugin before this one answered. Not there for `VERSION`, `STATUS` and `GC`.
    #[serde(rename = "prevResult")]
    pub previous: Option<Value>,
    /// Where the agent listens.
    #[serde(default = "socket")]
    pub socket: PathBuf,
    /// How long the agent may take to attach a pod, in seconds.
    #[serde(rename = "timeoutSeconds", default = "timeout")]
    timeout: u64,
    /// Whether a pod starts without redirection if the agent cannot attach it or cannot be asked.
    #[serde(rename = "failOpen", default)]
    pub fail_open: bool,
    /// Namespaces whose pods are none of the mesh's: they start also while the agent cannot be asked.
    #[serde(rename = "excludeNamespaces", default)]
    pub exclude_namespaces: Vec<String>,
    /// `GC`: the sandboxes that there are. None if the runtime does not say: libcni leaves the key out then
    /// (`GCNetworkList` without arguments).
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
    /// The sandbox.
    #[serde(rename = "containerID")]
    pub container_id: String,
}

fn oldest() -> String {
    // What a configuration without a version means (CNI specification 0.4.0, "Network Configuration"): one of
    // the first versions, which this plugin does not know.
    "0.2.0".to_owned()
}

fn socket() -> PathBuf {
    SOCKET.into()
}

/// The list of a key that is there. CRI-O gives libcni a nil list where nothing runs, and Go writes that as `null`.
fn list_or_null<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Vec<Attachment>>, D::Error> {
    let list = Option::<Vec<Attachment>>::deserialize(value)?;
    Ok(Some(list.unwrap_or_default()))
}

const fn timeout() -> u64 {
    TIMEOUT
}

impl Config {
    /// Reads a configuration, of whatever version.
    pub fn read(text: &str) -> Result<Self, CniError> {
        serde_json::from_str(text)
            .map_err(|error| CniError::new(Code::Decoding, "read the network configuration", error))
    }

    /// Refuses a version that is not known.
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

    /// How long the agent may take to answer.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}
