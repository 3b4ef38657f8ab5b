// SPDX-License-Identifier: MIT OR Apache-2.0
//! A worker's main loop: one request a line on standard input, one reply a line on standard
//! output. The end of standard input ends the worker and what it has started, at once.

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
    credentials,
    entry::Entry,
    protocol::{Reply, Request},
};
use crate::{
    dial, flood,
    flows::Switchboard,
    hold::Holding,
    http,
    process::{self, Process, Running},
    rate,
    serve::Server,
    udp,
};

/// Programs this worker has started, shared with the thread that ends them.
type Programs = Arc<Mutex<Vec<Running>>>;

/// Takes the identity and does what it is told.
pub(crate) fn run(entry: &Entry) -> Result<()> {
    match credentials::take(entry) {
        Ok(switchboard) => serve(Ok(()), switchboard),
        Err(error) => serve::<()>(Err(error), None),
    }
}

/// Says what came of the beginning, and does what it is told.
pub(super) fn serve<T: Serialize>(
    begun: Result<T>,
    switchboard: Option<Switchboard>,
) -> Result<()> {
    reply(&reply_of(begun.and_then(|begun| Ok(to_value(begun)?))))?;
    let programs = Programs::default();
    let (sender, requests) = channel();
    let theirs = Arc::clone(&programs);
    let listener = thread::spawn(move || listen(&sender, &theirs));
    let mut session = Session {
        programs,
        servers: BTreeMap::new(),
        holding: Holding::default(),
        switchboard,
    };
    for request in requests {
        if reply(&reply_of(session.answer(request))).is_err() {
            break;
        }
    }
    // Nobody is there to answer any more, so standard input ends as well, and with it the listener
    // ends what was started, and this process.
    drop(listener.join());
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
        .context("answering the test process")
}

/// Reads in a thread of its own, so that the end is seen even while a command is under way.
#[expect(
    clippy::exit,
    reason = "the main thread may be in a system call that lasts"
)]
fn listen(requests: &Sender<Request>, programs: &Programs) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let Ok(request) = serde_json::from_str(&line) else {
            break;
        };
        if requests.send(request).is_err() {
            break;
        }
    }
    for program in locked(programs).iter_mut() {
        // Fails only if it is gone.
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
    holding: Holding,
    switchboard: Option<Switchboard>,
}

impl Session {
    fn answer(&mut self, request: Request) -> Result<Value> {
        let value = match request {
            Request::Dial(request) => to_value(dial::dial(&request)?),
            Request::DialSequence(request) => to_value(dial::dial_sequence(&request)?),
            Request::UdpTalk(request) => to_value(udp::talk(&request)?),
            Request::Serve(request) => {
                let (server, address) = Server::start(&request)?;
                self.servers.insert(request.name, server);
                to_value(address)
            }
            Request::Accepted { server } => to_value(self.server(&server)?.accepted()),
            Request::StopServer { server } => to_value(self.servers.remove(&server).map(drop)),
            Request::HttpGet(request) => to_value(http::get(&request)),
            Request::Flood(request) => to_value(flood::flood(&request)),
            Request::Flows(batch) => {
                let switchboard = self.switchboard.as_mut();
                to_value(
                    switchboard
                        .context("this worker has no listeners")?
                        .run(&batch)?,
                )
            }
            Request::Rate(request) => to_value(rate::rate(&request)),
            Request::Hold(request) => to_value(self.holding.add(&request)),
            Request::Held => to_value(self.holding.look()),
            Request::AskHeld { limit_ms } => {
                to_value(self.holding.ask(Duration::from_millis(limit_ms)))
            }
            Request::Release => {
                self.holding.release();
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
            .ok_or_else(|| anyhow!("no server is called {name}"))
    }

    fn with<T>(&self, process: usize, work: impl FnOnce(&mut Running) -> T) -> Result<T> {
        locked(&self.programs)
            .get_mut(process)
            .map(work)
            .ok_or_else(|| anyhow!("no such program"))
    }
}
