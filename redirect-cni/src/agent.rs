//! Asking the agent.

use std::{
    fmt,
    io::{BufRead as _, BufReader, Error, ErrorKind, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use crate::protocol::{Answer, Ask, MAX_LINE, PROTOCOL, Question};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub struct Unreachable {
    socket: String,
    why: Error,
}

/// What an error of the socket means to an operator.
const MEANINGS: [(ErrorKind, &str); 5] = [
    (
        ErrorKind::NotFound,
        "there is no such socket: is redirect-agent running on this node, with --cni-socket?",
    ),
    (
        ErrorKind::ConnectionRefused,
        "nobody listens there: redirect-agent has ended",
    ),
    (
        ErrorKind::WouldBlock,
        "redirect-agent did not answer in time",
    ),
    (ErrorKind::TimedOut, "redirect-agent did not answer in time"),
    (
        ErrorKind::PermissionDenied,
        "this program may not connect to it: the runtime must run it as root",
    ),
];

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { socket, why } = self;
        write!(f, "\"{socket}\": ")?;
        match MEANINGS.iter().find(|(kind, _)| *kind == why.kind()) {
            Some((_, meaning)) => f.write_str(meaning),
            None => why.fmt(f),
        }
    }
}

/// Asks, and waits for the answer.
pub fn ask(socket: &Path, ask: Ask, limit: Duration) -> Result<Answer, Unreachable> {
    exchange(socket, ask, limit).map_err(|why| Unreachable {
        socket: socket.display().to_string(),
        why,
    })
}

fn exchange(socket: &Path, ask: Ask, limit: Duration) -> Result<Answer, Error> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let question = Question {
        protocol: PROTOCOL,
        ask,
    };
    let mut line = serde_json::to_vec(&question)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut answer)?;
    if !answer.ends_with('\n') {
        return Err(Error::new(
            ErrorKind::UnexpectedEof,
            "redirect-agent hung up before it had answered",
        ));
    }
    Ok(serde_json::from_str(&answer)?)
}
