//! How a pod is redirected until its proxy listens for the first time: its init containers, mostly.

use std::collections::BTreeMap;

use redirect_user::config::{Dns, Inbound, Include, RedirectConfig};
use serde::{
    Deserialize,
    de::{IntoDeserializer as _, value::Error as ValueError},
};

/// The annotation that says how a pod is redirected until its proxy listens. There is none of Istio's.
const BEFORE_PROXY: &str = "redirect-ebpf/before-proxy";

/// What is chosen, for the mesh or for a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum BeforeProxy {
    /// As after it: what would go to the proxy is refused.
    #[default]
    Held,
    /// Not at all, but for the proxy's user, whose calls to its own pod go to the proxy: that is what Istio's
    /// container `istio-validation` looks for before it lets the others start.
    Direct,
}

impl BeforeProxy {
    /// What a pod says of that, else what the mesh does.
    pub(super) fn of_pod(
        annotations: &BTreeMap<String, String>,
        mesh: Self,
    ) -> Result<Self, String> {
        let Some(text) = annotations.get(BEFORE_PROXY) else {
            return Ok(mesh);
        };
        let chosen: Result<_, ValueError> = Self::deserialize(text.as_str().into_deserializer());
        chosen.map_err(|_unknown| {
            let text = text.escape_debug();
            format!("annotation {BEFORE_PROXY} \"{text}\": write held or direct")
        })
    }

    /// What is in force until the proxy listens, if that is not what is after.
    pub(super) fn config(self, after: &RedirectConfig) -> Option<RedirectConfig> {
        match self {
            Self::Held => None,
            Self::Direct => Some(RedirectConfig {
                include: Include::Cidrs(Vec::new()),
                include_ports: Vec::new(),
                dns: Dns::default(),
                inbound: Inbound::default(),
                ..after.clone()
            }),
        }
    }
}
