// SPDX-License-Identifier: MIT OR Apache-2.0
//! The admin interface of Envoy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, bail};

use crate::{http::HttpGet, worker::Worker};

/// The port of Envoy's admin interface under Istio.
pub(super) const ADMIN_PORT: u16 = 15000;

/// Gets a page of the admin interface of the Envoy in this worker's network namespace.
pub(super) fn admin(worker: &Worker, path: &str) -> Result<String> {
    let answer = worker.http_get(&HttpGet::to(admin_address()).path(path))?;
    match answer.status() {
        Some(200) => Ok(answer.body().to_owned()),
        _ => bail!("get {path} of Envoy: {answer:?}"),
    }
}

const fn admin_address() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), ADMIN_PORT)
}
