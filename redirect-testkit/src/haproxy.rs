// SPDX-License-Identifier: MIT OR Apache-2.0
//! haproxy as a pod's sidecar: a second proxy that reads `SO_ORIGINAL_DST`, with a buffer of 16 bytes
//! where Envoy's has 128.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::{
    dial::Dial,
    identity::Identity,
    outbound::{CAPTURE_PORT, OutboundPolicy, capture_addresses},
    pod::Pod,
    process::Process,
    wait::wait_until,
    worker::Worker,
};

/// The time that haproxy may take to start: a tenth of a second usually, longer on an emulated machine.
const STARTING: Duration = Duration::from_mins(1);

/// A running haproxy, which proxies plain TCP. It passes IPv4 on (also from `AF_INET6` sockets) and closes IPv6:
/// see `configuration`. Dropping it kills haproxy.
#[derive(Debug)]
pub struct Haproxy {
    worker: Worker,
    process: Process,
}

impl Haproxy {
    /// The program's name, for [`crate::missing`].
    pub const PROGRAM: &str = "haproxy";

    /// Starts haproxy in the pod, with the sidecar's identity, and waits until it listens.
    pub fn start(pod: &Pod, policy: &OutboundPolicy) -> Result<Self> {
        let worker = pod.worker(&Identity::proxy())?;
        let process = worker.start(
            &[Self::PROGRAM, "-db", "-f", "/dev/stdin"],
            &configuration(policy),
        )?;
        let haproxy = Self { worker, process };
        haproxy.wait_until_listening()?;
        Ok(haproxy)
    }

    /// The log of haproxy so far.
    pub fn log(&self) -> Result<String> {
        self.worker.log(self.process)
    }

    /// The worker that started haproxy: a process with the sidecar's identity.
    pub const fn worker(&self) -> &Worker {
        &self.worker
    }

    fn wait_until_listening(&self) -> Result<()> {
        let listens = || {
            capture_addresses().into_iter().all(|address| {
                let dialled = self.worker.dial(&Dial::to(address).without_banner());
                dialled.is_ok_and(|dialled| dialled.is_connected())
            })
        };
        let mut is_alive = true;
        let is_ready = wait_until(STARTING, || {
            is_alive = self.worker.is_alive(self.process).unwrap_or(false);
            !is_alive || listens()
        });
        if is_ready && is_alive {
            return Ok(());
        }
        let problem = if is_alive {
            "does not listen"
        } else {
            "has ended"
        };
        bail!(
            "start haproxy: it {problem}:\n{}",
            self.log().unwrap_or_default()
        )
    }
}

/// The configuration has two sockets and not one for both families, because haproxy 2.6 asks for the original
/// destination on `AF_INET` sockets only, neither of IPv6 nor of IPv4-mapped connections on an `AF_INET6` one.
/// Connections of an `AF_INET6` socket look as if they were dialled to the capture port itself, and passing
/// them on would loop for ever. The server `0.0.0.0` stands for the original destination.
fn configuration(policy: &OutboundPolicy) -> String {
    let unknown = match policy {
        OutboundPolicy::AllowAny => String::new(),
        OutboundPolicy::RegistryOnly { registered } => format!(
            "    tcp-request connection reject unless {{ dst {} }} {{ dst_port {} }}\n",
            registered.ip(),
            registered.port()
        ),
    };
    format!(
        "global\n    \
             maxconn 4000\n\
         defaults\n    \
             mode tcp\n    \
             timeout connect 5s\n    \
             timeout client 30s\n    \
             timeout server 30s\n\
         listen virtualOutbound\n    \
             bind 0.0.0.0:{CAPTURE_PORT}\n    \
             bind :::{CAPTURE_PORT} v6only\n    \
             tcp-request connection reject if {{ dst_port {CAPTURE_PORT} }}\n\
         {unknown}    \
             server original_dst 0.0.0.0\n"
    )
}
