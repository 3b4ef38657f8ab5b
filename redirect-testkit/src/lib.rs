// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pods, proxies and iptables rules made by hand, for tests that need a kernel.
//!
//! A [`Pod`] is what the redirector can see of a Kubernetes pod: a cgroup v2 folder with one
//! child per container, and a network namespace. A [`Worker`] is a process with the identity a
//! test asks for (cgroup, uid, gid) inside that namespace; it dials, serves and reports who
//! answered. Workers are the test's own binary, started again, so a binary that uses this crate
//! calls [`helper::intercept`] before anything else in `main`.
//!
//! Traffic never leaves the namespaces made here, and they are removed even if the test process
//! is killed: see `guard.rs`.
//!
//! *Depends on*: `ip` and `iptables` in `PATH`; root. *Used by*: kernel tests, the demo, the
//! connect bench.

mod addr;
mod balancer;
mod cgroup;
mod cleanup;
mod command;
mod crowd;
mod dial;
mod envoy;
mod errno;
mod flood;
mod flows;
mod folder;
mod greeting;
mod guard;
mod guise;
mod haproxy;
pub mod helper;
mod hold;
mod http;
mod identity;
pub mod iptables;
mod kill;
mod limited;
mod meanwhile;
mod mount;
mod netns;
#[cfg(feature = "node")]
pub mod node;
mod outbound;
mod pod;
mod pod_cgroup;
mod process;
mod rate;
mod require;
pub mod runner;
mod serve;
mod sockopt;
mod udp;
mod uring;
mod usage;
mod userns;
mod wait;
mod worker;
mod world;

pub use crate::{
    balancer::Balancer,
    cgroup::unified_mount,
    crowd::{Crowd, Member},
    dial::{Answer, Dial, DialSequence, Dialled, Mode, Outcome},
    envoy::{Envoy, EnvoyStats},
    flood::{Flood, Flooded},
    flows::{Ends, Flow, Listener, Seen, Side, Way},
    folder::GuardedFolder,
    greeting::{Asked, Greeting},
    guise::{Guise, Ids},
    haproxy::Haproxy,
    hold::{Held, Hold},
    http::{HttpAnswer, HttpGet},
    identity::{APP_ID, Identity, PROXY_ID, Place},
    kill::{Change, Fate, kill_after},
    limited::Limited,
    meanwhile::{Until, meanwhile},
    mount::Mount,
    netns::within,
    outbound::OutboundPolicy,
    pod::Pod,
    pod_cgroup::Cgroup,
    process::{Finished, Process},
    rate::{Rate, Rated},
    require::{REQUIRE_ALL, missing, missing_or_fail, no_multipath, skip_or_fail, tests_at_once},
    serve::{Accepted, Behaviour, Serve},
    udp::{UdpSeen, UdpStep, UdpTalk},
    uring::no_io_uring,
    usage::{processor_time, resident_memory},
    wait::wait_until,
    worker::Worker,
    world::World,
};
