// SPDX-License-Identifier: MIT OR Apache-2.0
//! The main loop of a worker: reads requests from standard input and writes replies to standard output, one per line.
//! The end of standard input ends the worker and the programs that it has started, at once.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, Write as _},
    process::exit,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;
use serde_json::{Value, to_value};

use super::{
    protocol::{Reply, Request},
    setup,
    spec::WorkerSpec,
};
use crate::{
    dial, flood,
    flows::FlowRunner,
    http,
    open_connections::ConnectionPool,
    process::{self, Process, Running},
    rate,
    serve::Server,
    udp,
};

/// The programs that this worker has started, shared with the thread that ends them.
type Programs = Arc<Mutex<Vec<Running>>>;

/// Takes on the identity, and serves requests.
pub(crate) fn run(spec: &WorkerSpec) -> Result<()> {
    match setup::apply(spec) {
        Ok(flow_runner) => serve(Ok(()), flow_runner),
        Err(error) => serve::<()>(Err(error), None),
    }
}

/// Sends the result of the start as the first reply, and serves requests.
pub(super) fn serve<T: Serialize>(
    started: Result<T>,
    flow_runner: Option<FlowRunner>,
) -> Result<()> {
    reply(&reply_of(started.and_then(|value| Ok(to_value(value)?))))?;
    let programs = Programs::default();
    let (sender, requests) = channel();
    let shared = Arc::clone(&programs);
    let reader = thread::spawn(move || read_requests(&sender, &shared));
    let mut session = Session {
        programs,
        servers: BTreeMap::new(),
        connections: ConnectionPool::default(),
        flow_runner,
    };
    for request in requests {
        if reply(&reply_of(session.answer(request))).is_err() {
            break;
        }
    }
    // The test process has ended, so standard input ends as well. The reading thread then kills the programs and
    // ends this process.
    drop(reader.join());
    Ok(())
}

fn reply_of(result: Result<Value>) -> Reply {
    match result {
        Ok(value) => Reply::Done(value),
        Err(error) => Reply::Failed(format!("{error:#}")),
    }
}

fn reply(reply: &Reply) -> Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)
        .and_then(|()| out.flush())
        .context("reply to the test process")
}

/// Reads requests in a thread of its own, so that the end of standard input is seen even while a request is served.
#[expect(clippy::exit, reason = "the main thread may be in a long system call")]
fn read_requests(requests: &Sender<Request>, programs: &Programs) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let Ok(request) = serde_json::from_str(&line) else {
            break;
        };
        if requests.send(request).is_err() {
            break;
        }
    }
    for program in locked(programs).iter_mut() {
        // Fails only if the program has ended.
        drop(program.kill());
    }
    exit(0)
}

fn locked(programs: &Programs) -> MutexGuard<'_, Vec<Running>> {
    programs.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Session {
    programs: Programs,
    servers: BTreeMap<String, Server>,
    connections: ConnectionPool,
    flow_runner: Option<FlowRunner>,
}

impl Session {
    fn answer(&mut self, request: Request) -> Result<Value> {
        let value = match request {
            Request::Dial(request) => to_value(dial::dial(&request)?),
            Request::DialSequence(request) => to_value(dial::dial_sequence(&request)?),
            Request::UdpScript(request) => to_value(udp::run(&request)?),
            Request::Serve(request) => {
                let (server, address) = Server::start(&request)?;
                self.servers.insert(request.name, server);
                to_value(address)
            }
            Request::AcceptedCounts { server } => to_value(self.server(&server)?.accepted()),
            Request::StopServer { server } => to_value(self.servers.remove(&server).map(drop)),
            Request::HttpGet(request) => to_value(http::get(&request)),
            Request::Flood(request) => to_value(flood::flood(&request)),
            Request::Flows(batch) => {
                let flow_runner = self.flow_runner.as_mut();
                to_value(
                    flow_runner
                        .context("run flows: this worker has no listeners")?
                        .run(&batch)?,
                )
            }
            Request::Rate(request) => to_value(rate::rate(&request)),
            Request::OpenConnections(request) => to_value(self.connections.add(&request)),
            Request::ConnectionCounts => to_value(self.connections.count()),
            Request::AskConnections { limit_ms } => {
                to_value(self.connections.ask(Duration::from_millis(limit_ms)))
            }
            Request::CloseConnections => {
                self.connections.close();
                to_value(())
            }
            Request::Run { argv } => to_value(process::run(&argv)?),
            Request::Start(request) => {
                let running = Running::start(&request)?;
                to_value(self.keep(running))
            }
            Request::Log { process } => self.with(process, |running| to_value(running.log()))?,
            Request::Alive { process } => {
                self.with(process, |running| to_value(running.is_alive()))?
            }
            Request::Kill { process } => {
                self.with(process, Running::kill)??;
                to_value(())
            }
        };
        Ok(value?)
    }

    fn keep(&self, running: Running) -> Process {
        let pid = running.pid();
        let mut programs = locked(&self.programs);
        programs.push(running);
        Process {
            index: programs.len() - 1,
            pid,
        }
    }

    fn server(&self, name: &str) -> Result<&Server> {
        self.servers
            .get(name)
            .ok_or_else(|| anyhow!("find the server {name}: this worker has none of that name"))
    }

    fn with<T>(&self, process: usize, work: impl FnOnce(&mut Running) -> T) -> Result<T> {
        locked(&self.programs)
            .get_mut(process)
            .map(work)
            .ok_or_else(|| anyhow!("find a program: this worker has not started it"))
    }
}
