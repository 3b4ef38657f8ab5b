//! The policy of a pod until its proxy listens for the first time, mostly for its init containers.

use std::collections::BTreeMap;

use redirect_user::config::{Dns, Inbound, Include, RedirectConfig};
use serde::{
    Deserialize,
    de::{IntoDeserializer as _, value::Error as ValueError},
};

/// Annotation with this policy. Istio has none for it.
const BEFORE_PROXY: &str = "redirect-ebpf/before-proxy";

/// The choice of a mesh, or of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum BeforeProxy {
    /// The final policy: connections that would go to the proxy are refused.
    #[default]
    Held,
    /// No redirection, but for calls of the proxy's user to its own pod: Istio's container `istio-validation`
    /// makes those before it lets the other containers start.
    Direct,
}

impl BeforeProxy {
    /// The choice of a pod's annotation, or that of the mesh.
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

    /// The configuration until the proxy listens, if that differs from the final one.
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
