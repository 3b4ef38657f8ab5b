// SPDX-License-Identifier: MIT OR Apache-2.0
//! The test kit: pods, nodes, proxies and iptables rules, for tests that need a kernel.
//!
//! A [`Pod`] has the parts of a Kubernetes pod that the redirector sees: a cgroup v2 folder with one child per
//! container, and a network namespace. Its [`World`] is the network outside. A [`Worker`] is a process with the
//! identity that a test asks for (cgroup, uid, gid) inside of either; it dials, serves, and reports which server
//! answered. Servers introduce themselves with a [`Banner`]. The module [`iptables`] applies Istio's rules to a pod
//! with the real iptables, as the oracle that the eBPF programs are compared with.
//!
//! Workers are the test's own binary, started again: a binary that uses this crate calls [`helper::intercept`]
//! before anything else in `main`. Suites with a `main` of their own list their tests with [`cases!`] and run them
//! with [`runner`].
//!
//! Traffic never leaves the namespaces made here. A [guard](GuardedFolder) process removes everything, even if the
//! test process is killed. All of this needs root, and `ip` and `iptables` in `PATH`.

mod addr;
mod background;
mod banner;
mod cgroup;
mod cleanup;
mod command;
mod dial;
mod envoy;
mod errno;
mod fleet;
mod flood;
mod flows;
mod folder;
mod guard;
mod haproxy;
mod hardware;
pub mod helper;
mod http;
mod identity;
pub mod iptables;
mod kill;
mod memory_limit;
mod mount;
mod netns;
#[cfg(feature = "node")]
pub mod node;
mod open_connections;
mod outbound;
mod pod;
mod pod_cgroup;
mod process;
mod rate;
mod require;
pub mod runner;
mod serve;
mod socket_identity;
mod socket_lb;
mod sockopt;
mod spread;
mod udp;
mod uring;
mod usage;
mod userns;
mod wait;
mod worker;
mod world;

pub use crate::{
    background::{StopOnDrop, with_background},
    banner::{Banner, OrigDstQuery},
    cgroup::unified_mount,
    dial::{Answer, Dial, DialOutcome, DialReport, DialSequence, Mode},
    envoy::{Envoy, EnvoyStats},
    fleet::{Fleet, FleetPod},
    flood::{Flood, FloodReport},
    flows::{Flow, FlowEnds, FlowKind, FlowListener, FlowOutcome, Side},
    folder::GuardedFolder,
    haproxy::Haproxy,
    hardware::Hardware,
    http::{HttpAnswer, HttpGet},
    identity::{APP_ID, Identity, PROXY_ID, WorkerCgroup},
    kill::{Change, KillResult, kill_after},
    memory_limit::MemoryLimit,
    mount::Mount,
    netns::in_netns,
    open_connections::{ConnectionCounts, OpenConnections},
    outbound::OutboundPolicy,
    pod::Pod,
    pod_cgroup::Cgroup,
    process::{Process, ProgramOutput},
    rate::{Rate, RateReport},
    require::{REQUIRE_ALL, missing, missing_or_fail, no_multipath, skip_or_fail, tests_at_once},
    serve::{AcceptedCounts, Behaviour, Serve},
    socket_identity::{SocketIdentity, ThreadIds},
    socket_lb::{AttachFlags, SocketLb},
    spread::Spread,
    udp::{UdpScript, UdpStep, UdpStepReport},
    uring::no_io_uring,
    usage::{processor_time, resident_memory},
    wait::wait_until,
    worker::Worker,
    world::World,
};
