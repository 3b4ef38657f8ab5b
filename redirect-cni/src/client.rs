//! The client of the agent's socket: sends a request, and waits for the response.

use std::{
    fmt,
    io::{BufRead as _, BufReader, Error, ErrorKind, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use crate::protocol::{MAX_LINE, Operation, PROTOCOL, PluginRequest, Response};

/// The error of a request without a response.
#[derive(Debug, thiserror::Error)]
pub struct Unreachable {
    socket: String,
    why: Error,
}

/// Errors of the socket, and their meaning to an operator.
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

/// Asks the agent for an operation, and waits for the response.
pub fn request(
    socket: &Path,
    operation: Operation,
    limit: Duration,
) -> Result<Response, Unreachable> {
    exchange(socket, operation, limit).map_err(|why| Unreachable {
        socket: socket.display().to_string(),
        why,
    })
}

fn exchange(socket: &Path, operation: Operation, limit: Duration) -> Result<Response, Error> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let request = PluginRequest {
        protocol: PROTOCOL,
        operation,
    };
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut response = String::new();
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut response)?;
    if !response.ends_with('\n') {
        return Err(Error::new(
            ErrorKind::UnexpectedEof,
            "redirect-agent closed the connection before it answered",
        ));
    }
    Ok(serde_json::from_str(&response)?)
}
