// SPDX-License-Identifier: MIT OR Apache-2.0
//! The channel between the test process and one worker: requests one way, replies the other.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    process::{Child, ChildStdin},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};

use super::protocol::{Reply, Request};
use crate::wait::wait_until;

/// The time that a worker may take to end after its standard input is closed. Then it is killed.
const ENDING: Duration = Duration::from_secs(2);

/// The channel to one worker. Dropping it ends the worker.
#[derive(Debug)]
pub(super) struct Channel {
    pid: u32,
    requests: Option<Requests>,
    replies: Receiver<String>,
    /// None if another program has started the worker, and will end it.
    child: Option<Child>,
}

/// The test's end of the stream on which a worker reads requests. The worker ends when it is closed.
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
            // Needed because the thread that reads replies has a copy. Fails only if the worker has ended.
            stream.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }
}

impl Channel {
    /// Makes the channel to a child with piped standard input and output.
    pub(super) fn to_child(mut child: Child) -> Result<Self> {
        let stdout = child.stdout.take();
        Ok(Self {
            pid: child.id(),
            requests: child.stdin.take().map(Requests::Pipe),
            replies: lines(
                stdout.ok_or_else(|| anyhow!("start a worker: it has no standard output"))?,
            ),
            child: Some(child),
        })
    }

    /// Makes the channel to a worker that another program has started, at the other end of this stream.
    pub(super) fn to_stream(stream: UnixStream, pid: u32) -> Result<Self> {
        let replies = stream.try_clone().context("clone the stream of a worker")?;
        Ok(Self {
            pid,
            requests: Some(Requests::Stream(stream)),
            replies: lines(replies),
            child: None,
        })
    }

    /// Sends a request and waits for its reply.
    pub(super) fn ask(&mut self, request: &Request, limit: Duration) -> Result<Reply> {
        let pid = self.pid;
        let requests = self.requests.as_mut();
        let requests = requests.ok_or_else(|| anyhow!("ask worker {pid}: it has ended"))?;
        let mut text = serde_json::to_vec(request)?;
        text.push(b'\n');
        requests
            .send(&text)
            .with_context(|| format!("ask worker {pid}: it has ended"))?;
        self.reply(limit)
    }

    /// Waits for the next reply. A worker that does not reply in time is given up, because its late reply would be
    /// taken for the answer to the next request.
    pub(super) fn reply(&mut self, limit: Duration) -> Result<Reply> {
        let pid = self.pid;
        let text = self
            .replies
            .recv_timeout(limit)
            .inspect_err(|_| drop(self.requests.take()));
        let text = text.with_context(|| format!("ask worker {pid}: it does not reply"))?;
        serde_json::from_str(&text)
            .with_context(|| format!("parse the reply of worker {pid}: {text}"))
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        drop(self.requests.take());
        let Some(child) = &mut self.child else {
            return;
        };
        if !wait_until(ENDING, || !matches!(child.try_wait(), Ok(None))) {
            // Both fail only if the worker has ended.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Reads lines in a thread of its own, and sends them to the receiver.
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
