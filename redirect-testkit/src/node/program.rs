// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs in a container.

use std::path::PathBuf;

use anyhow::Result;

use crate::{envoy::Envoy, identity::PROXY_ID};

/// What runs in a container.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its user and group.
    pub uid: u32,
    /// Its command line.
    pub argv: Vec<String>,
    /// What of the node it can read, and where.
    pub mounts: Vec<(PathBuf, &'static str)>,
}

impl Program {
    /// Envoy as the sidecar: see [`Envoy::proxy_protocol_argv`].
    pub fn sidecar() -> Result<Self> {
        let binary = Envoy::binary()?.canonicalize()?;
        Ok(Self {
            uid: PROXY_ID,
            argv: Envoy::proxy_protocol_argv("/envoy"),
            mounts: vec![(binary, "/envoy")],
        })
    }
}
