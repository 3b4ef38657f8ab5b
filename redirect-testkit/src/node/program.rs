// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program of a container.

use std::path::PathBuf;

use anyhow::Result;

use crate::{envoy::Envoy, identity::PROXY_ID};

/// The program of a container, with its user and its mounts.
#[derive(Debug, Clone)]
pub struct Program {
    /// The uid and gid.
    pub uid: u32,
    /// The command line.
    pub argv: Vec<String>,
    /// The files of the node that are mounted read-only, and their paths in the container.
    pub mounts: Vec<(PathBuf, &'static str)>,
}

impl Program {
    /// Makes the program of a sidecar: Envoy with [`Envoy::proxy_protocol_argv`].
    pub fn sidecar() -> Result<Self> {
        let binary = Envoy::binary()?.canonicalize()?;
        Ok(Self {
            uid: PROXY_ID,
            argv: Envoy::proxy_protocol_argv("/envoy"),
            mounts: vec![(binary, "/envoy")],
        })
    }
}
