// SPDX-License-Identifier: MIT OR Apache-2.0
//! Envoy's admin interface.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, bail};

use crate::{http::HttpGet, worker::Worker};

/// Where Istio puts Envoy's admin interface.
pub(super) const ADMIN_PORT: u16 = 15000;

/// A page of the admin interface of the Envoy in this worker's network namespace.
pub(super) fn admin(worker: &Worker, path: &str) -> Result<String> {
    let answer = worker.http_get(&HttpGet::to(admin_address()).path(path))?;
    match answer.status() {
        Some(200) => Ok(answer.body().to_owned()),
        _ => bail!("Envoy's {path}: {answer:?}"),
    }
}

const fn admin_address() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), ADMIN_PORT)
}
