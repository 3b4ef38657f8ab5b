// SPDX-License-Identifier: MIT OR Apache-2.0
//! The test's side of a worker: starts it, asks it, ends it.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write as _},
    net::{Shutdown, SocketAddr},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, ChildStdin, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    command,
    dial::{Answer, Dial, DialSequence, Dialled},
    flood::{Flood, Flooded},
    flows::{Batch, Flow, Listening, Seen},
    hold::{Held, Hold},
    http::{HttpAnswer, HttpGet},
    identity::Identity,
    process::{Finished, Process, StartProcess},
    rate::{Rate, Rated},
    request::{Reply, Request},
    serve::{Accepted, Serve},
    udp::{UdpSeen, UdpTalk},
    wait::wait_until,
};

/// Added to a command's own limit before the worker counts as hung.
const MARGIN: Duration = Duration::from_secs(15);
/// For commands without a limit of their own: floods and programs.
const LONG: Duration = Duration::from_mins(5);
/// A worker whose standard input is closed ends at once; one that doesn't is killed.
const ENDING: Duration = Duration::from_secs(2);

/// What a new worker does before it listens to commands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) namespace: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) listening: Option<Listening>,
}

impl Entry {
    pub(crate) fn new(cgroup: Option<PathBuf>, namespace: &str, identity: &Identity) -> Self {
        Self {
            cgroup,
            namespace: namespace.to_owned(),
            uid: identity.uid,
            gid: identity.gid,
            groups: identity.groups.clone(),
            listening: None,
        }
    }

    /// The same, with listeners made on the way.
    pub(crate) fn listening(mut self, listening: Listening) -> Self {
        self.listening = Some(listening);
        self
    }
}

/// A process with the identity a test asked for. It does one command at a time; servers and
/// programs it has started run on beside. It ends when dropped, and when the test process ends.
#[derive(Debug)]
pub struct Worker {
    pid: u32,
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    requests: Option<Requests>,
    replies: Receiver<String>,
    /// None if somebody else has started it, and ends it.
    child: Option<Child>,
}

/// Where a worker listens. It ends when this does.
#[derive(Debug)]
enum Requests {
    Pipe(ChildStdin),
    Stream(UnixStream),
}

impl Requests {
    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.write_all(line),
            Self::Stream(stream) => stream.write_all(line),
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        if let Self::Stream(stream) = self {
            // What reads the replies has it as well. Fails only if the worker is gone.
            stream.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }
}

impl Worker {
    /// Starts the worker and waits until it has become who it should be.
    pub(crate) fn spawn(entry: &Entry) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let mut child = command::ourselves()?
            .args([crate::probe::MARK, "worker", &serde_json::to_string(entry)?])
            // Ctrl-C is for the test process; the worker ends with it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a worker")?;
        let requests = child.stdin.take().map(Requests::Pipe);
        let replies = child
            .stdout
            .take()
            .ok_or_else(|| anyhow!("a worker without standard output"))?;
        let pid = child.id();
        let worker = Self {
            pid,
            line: Mutex::new(Line {
                requests,
                replies: lines(replies),
                child: Some(child),
            }),
        };
        let reply = worker.lock().reply(pid, MARGIN)?;
        match reply {
            Reply::Done(_) => Ok(worker),
            Reply::Failed(reason) => bail!("a worker could not take its identity: {reason}"),
        }
    }

    /// A worker that somebody else has started, at the other end of this; and what it has to say first.
    #[cfg_attr(not(feature = "node"), expect(dead_code, reason = "for nodes"))]
    pub(crate) fn at<T: DeserializeOwned>(stream: UnixStream, pid: u32) -> Result<(Self, T)> {
        let replies = stream.try_clone().context("a worker's stream")?;
        let mut line = Line {
            requests: Some(Requests::Stream(stream)),
            replies: lines(replies),
            child: None,
        };
        let said = value(line.reply(pid, MARGIN)?)?;
        let line = Mutex::new(line);
        Ok((Self { pid, line }, said))
    }

    /// Its process id.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Makes a connection and tells who answered.
    pub fn dial(&self, dial: &Dial) -> Result<Dialled> {
        self.ask(&Request::Dial(dial.clone()), dial.timeout)
    }

    /// Makes two connections on one socket.
    pub fn dial_sequence(&self, sequence: &DialSequence) -> Result<(Dialled, Dialled)> {
        let limit = sequence.first.timeout + sequence.second.timeout;
        self.ask(&Request::DialSequence(sequence.clone()), limit)
    }

    /// Takes steps on one UDP socket.
    pub fn udp_talk(&self, talk: &UdpTalk) -> Result<Vec<UdpSeen>> {
        let steps = u32::try_from(talk.steps.len()).unwrap_or(u32::MAX);
        self.ask(
            &Request::UdpTalk(talk.clone()),
            talk.patience.saturating_mul(steps),
        )
    }

    /// Starts a server; returns once it listens, with its address.
    pub fn serve(&self, serve: &Serve) -> Result<SocketAddr> {
        self.ask(&Request::Serve(serve.clone()), Duration::ZERO)
            .with_context(|| format!("serving {} on {}", serve.name, serve.listen))
    }

    /// What the server has accepted since it started.
    pub fn accepted(&self, server: &str) -> Result<Accepted> {
        self.ask(
            &Request::Accepted {
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

    /// Makes many connections and judges each.
    pub fn flood(&self, flood: &Flood) -> Result<Flooded> {
        self.ask(&Request::Flood(flood.clone()), LONG)
    }

    /// The same over and over until it is over; at least once.
    pub fn flood_until(&self, flood: &Flood, is_over: &AtomicBool) -> Result<Flooded> {
        let mut total = Flooded::default();
        loop {
            total.add(self.flood(flood)?);
            if is_over.load(Ordering::Relaxed) {
                return Ok(total);
            }
        }
    }

    /// Makes connections one after the other and tells what both ends of each saw, in the same
    /// order. Only a worker that was made by [`crate::Pod::switchboard`] can.
    pub fn flows(&self, flows: &[Flow], limit: Duration) -> Result<Vec<Seen>> {
        let count = u32::try_from(flows.len()).context("too many connections for one request")?;
        let batch = Batch {
            flows: flows.to_vec(),
            limit_ms: u64::try_from(limit.as_millis())?,
        };
        self.ask(&Request::Flows(batch), limit * count)
    }

    /// Measures connects a second.
    pub fn connect_rate(&self, rate: &Rate) -> Result<Rated> {
        self.ask(&Request::Rate(*rate), rate.duration + LONG)
    }

    /// Begins connections and keeps them, with those already held.
    pub fn hold(&self, hold: &Hold) -> Result<Held> {
        self.ask(&Request::Hold(*hold), MARGIN)
    }

    /// Looks how the held connections stand.
    pub fn held(&self) -> Result<Held> {
        self.ask(&Request::Held, Duration::ZERO)
    }

    /// Sends an empty line on each held connection, and tells what each server answers.
    pub fn ask_held(&self, limit: Duration) -> Result<Vec<Answer>> {
        let limit_ms = u64::try_from(limit.as_millis())?;
        self.ask(&Request::AskHeld { limit_ms }, limit)
    }

    /// Closes the held connections.
    pub fn release(&self) -> Result<()> {
        self.ask(&Request::Release, Duration::ZERO)
    }

    /// Runs a program to its end, with this worker's identity.
    pub fn run(&self, argv: &[&str]) -> Result<Finished> {
        self.ask(&Request::Run { argv: owned(argv) }, LONG)
    }

    /// Starts a program with this worker's identity, feeds it `stdin`, and lets it run until it
    /// is killed or the worker ends.
    pub fn start(&self, argv: &[&str], stdin: &str) -> Result<Process> {
        self.ask(
            &Request::Start(StartProcess {
                argv: owned(argv),
                stdin: stdin.to_owned(),
            }),
            Duration::ZERO,
        )
    }

    /// What a started program has written to its outputs so far.
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
        let mut line = self.lock();
        let requests = line
            .requests
            .as_mut()
            .ok_or_else(|| anyhow!("worker {} has ended", self.pid))?;
        let mut text = serde_json::to_vec(request)?;
        text.push(b'\n');
        requests
            .send(&text)
            .with_context(|| format!("worker {} is gone", self.pid))?;
        let reply = line.reply(self.pid, limit + MARGIN);
        drop(line);
        value(reply?)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// The next reply. A worker that owes one is given up: its late reply would be taken for the
    /// answer to the next request.
    fn reply(&mut self, pid: u32, limit: Duration) -> Result<Reply> {
        let text = self
            .replies
            .recv_timeout(limit)
            .inspect_err(|_| drop(self.requests.take()));
        let text = text.with_context(|| format!("worker {pid} does not answer"))?;
        serde_json::from_str(&text).with_context(|| format!("a reply of worker {pid}: {text}"))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        drop(self.requests.take());
        let Some(child) = &mut self.child else {
            return;
        };
        if !wait_until(ENDING, || !matches!(child.try_wait(), Ok(None))) {
            // Both fail only if it is gone.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// What somebody writes, line by line.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
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
