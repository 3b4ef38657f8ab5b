// SPDX-License-Identifier: MIT OR Apache-2.0
//! The test process's handle of a worker: starts it, sends it requests, and ends it.

use std::{
    net::SocketAddr,
    os::unix::net::UnixStream,
    process::Stdio,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;

use super::{
    channel::Channel,
    protocol::{Reply, Request},
    spec::WorkerSpec,
};
use crate::{
    command,
    dial::{Answer, Dial, DialReport, DialSequence},
    flood::{Flood, FloodReport},
    flows::{Flow, FlowBatch, FlowOutcome},
    http::{HttpAnswer, HttpGet},
    open_connections::{ConnectionCounts, OpenConnections},
    process::{Process, ProgramOutput, StartProcess},
    rate::{Rate, RateReport},
    serve::{AcceptedCounts, Serve},
    udp::{UdpScript, UdpStepReport},
};

/// The time that is added to a request's own limit. After both, the worker counts as hung.
const MARGIN: Duration = Duration::from_secs(15);
/// The limit of requests without one of their own: floods and programs.
const LONG: Duration = Duration::from_mins(5);

/// A process with the identity that a test asked for.
///
/// A worker serves one request at a time; servers and programs that it has started run beside. It ends when this is
/// dropped, and when the test process ends.
#[derive(Debug)]
pub struct Worker {
    pid: u32,
    channel: Mutex<Channel>,
}

impl Worker {
    /// Starts a worker, and waits until it has taken on its identity.
    pub(crate) fn spawn(spec: &WorkerSpec) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let child = command::helper("worker", &serde_json::to_string(spec)?)?
            // Ctrl-C is for the test process; the worker ends with it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a worker")?;
        let pid = child.id();
        let mut channel = Channel::to_child(child)?;
        match channel.reply(MARGIN)? {
            Reply::Done(_) => Ok(Self {
                pid,
                channel: Mutex::new(channel),
            }),
            Reply::Failed(reason) => bail!("start a worker: {reason}"),
        }
    }

    /// Makes the handle of a worker that another program has started, at the other end of this stream. Returns it with
    /// the first reply.
    #[cfg_attr(not(feature = "node"), expect(dead_code, reason = "for nodes"))]
    pub(crate) fn at<T: DeserializeOwned>(stream: UnixStream, pid: u32) -> Result<(Self, T)> {
        let mut channel = Channel::to_stream(stream, pid)?;
        let first = value(channel.reply(MARGIN)?)?;
        let channel = Mutex::new(channel);
        Ok((Self { pid, channel }, first))
    }

    /// The process id.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Makes a connection.
    pub fn dial(&self, dial: &Dial) -> Result<DialReport> {
        self.ask(&Request::Dial(dial.clone()), dial.timeout)
    }

    /// Makes two connections on one socket.
    pub fn dial_sequence(&self, sequence: &DialSequence) -> Result<(DialReport, DialReport)> {
        let limit = sequence.first.timeout + sequence.second.timeout;
        self.ask(&Request::DialSequence(sequence.clone()), limit)
    }

    /// Runs a script on one UDP socket. Returns a report of each step.
    pub fn udp_script(&self, script: &UdpScript) -> Result<Vec<UdpStepReport>> {
        let steps = u32::try_from(script.steps.len()).unwrap_or(u32::MAX);
        self.ask(
            &Request::UdpScript(script.clone()),
            script.timeout.saturating_mul(steps),
        )
    }

    /// Starts a server. Returns its address once it listens.
    pub fn serve(&self, serve: &Serve) -> Result<SocketAddr> {
        self.ask(&Request::Serve(serve.clone()), Duration::ZERO)
            .with_context(|| format!("serve {} on {}", serve.name, serve.listen))
    }

    /// Counts the connections that a server has accepted since it started.
    pub fn accepted(&self, server: &str) -> Result<AcceptedCounts> {
        self.ask(
            &Request::AcceptedCounts {
                server: server.to_owned(),
            },
            Duration::ZERO,
        )
    }

    /// Stops a server.
    pub fn stop_server(&self, server: &str) -> Result<()> {
        self.ask(
            &Request::StopServer {
                server: server.to_owned(),
            },
            Duration::ZERO,
        )
    }

    /// Makes an HTTP request.
    pub fn http_get(&self, get: &HttpGet) -> Result<HttpAnswer> {
        self.ask(&Request::HttpGet(get.clone()), get.timeout * 3)
    }

    /// Makes many connections and checks each.
    pub fn flood(&self, flood: &Flood) -> Result<FloodReport> {
        self.ask(&Request::Flood(flood.clone()), LONG)
    }

    /// Repeats a flood until the flag is set, at least once. Returns the sum of the reports.
    pub fn flood_until(&self, flood: &Flood, is_stopped: &AtomicBool) -> Result<FloodReport> {
        let mut total = FloodReport::default();
        loop {
            total.add(self.flood(flood)?);
            if is_stopped.load(Ordering::Relaxed) {
                return Ok(total);
            }
        }
    }

    /// Runs flows one after the other. Returns their outcomes in the same order. Only a worker of
    /// [`crate::Pod::flow_runner`] can do this.
    pub fn flows(&self, flows: &[Flow], limit: Duration) -> Result<Vec<FlowOutcome>> {
        let count =
            u32::try_from(flows.len()).context("run flows: they are too many for one request")?;
        let batch = FlowBatch {
            flows: flows.to_vec(),
            limit_ms: u64::try_from(limit.as_millis())?,
        };
        self.ask(&Request::Flows(batch), limit * count)
    }

    /// Measures the rate of connects.
    pub fn connect_rate(&self, rate: &Rate) -> Result<RateReport> {
        self.ask(&Request::Rate(*rate), rate.duration + LONG)
    }

    /// Opens connections without waiting, and keeps them with those already open. Returns the counts of all.
    pub fn open_connections(&self, open: &OpenConnections) -> Result<ConnectionCounts> {
        self.ask(&Request::OpenConnections(*open), MARGIN)
    }

    /// Counts the open connections by their present state.
    pub fn connection_counts(&self) -> Result<ConnectionCounts> {
        self.ask(&Request::ConnectionCounts, Duration::ZERO)
    }

    /// Sends an empty line on each open connection. Returns the servers' answers.
    pub fn ask_connections(&self, limit: Duration) -> Result<Vec<Answer>> {
        let limit_ms = u64::try_from(limit.as_millis())?;
        self.ask(&Request::AskConnections { limit_ms }, limit)
    }

    /// Closes the open connections.
    pub fn close_connections(&self) -> Result<()> {
        self.ask(&Request::CloseConnections, Duration::ZERO)
    }

    /// Runs a program with this worker's identity, and waits for its end.
    pub fn run(&self, argv: &[&str]) -> Result<ProgramOutput> {
        self.ask(&Request::Run { argv: owned(argv) }, LONG)
    }

    /// Starts a program with this worker's identity and this standard input. It runs until it ends, is killed, or the
    /// worker ends.
    pub fn start(&self, argv: &[&str], stdin: &str) -> Result<Process> {
        self.ask(
            &Request::Start(StartProcess {
                argv: owned(argv),
                stdin: stdin.to_owned(),
            }),
            Duration::ZERO,
        )
    }

    /// The outputs of a started program so far.
    pub fn log(&self, process: Process) -> Result<String> {
        self.ask(
            &Request::Log {
                process: process.index,
            },
            Duration::ZERO,
        )
    }

    /// Whether a started program still runs.
    pub fn is_alive(&self, process: Process) -> Result<bool> {
        self.ask(
            &Request::Alive {
                process: process.index,
            },
            Duration::ZERO,
        )
    }

    /// Kills a started program and waits for its end.
    pub fn kill(&self, process: Process) -> Result<()> {
        self.ask(
            &Request::Kill {
                process: process.index,
            },
            Duration::ZERO,
        )
    }

    fn ask<T: DeserializeOwned>(&self, request: &Request, limit: Duration) -> Result<T> {
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = channel.ask(request, limit + MARGIN);
        drop(channel);
        value(reply?)
    }
}

fn value<T: DeserializeOwned>(reply: Reply) -> Result<T> {
    match reply {
        Reply::Done(value) => Ok(serde_json::from_value(value)?),
        Reply::Failed(reason) => bail!("{reason}"),
    }
}

fn owned(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|&word| word.to_owned()).collect()
}
