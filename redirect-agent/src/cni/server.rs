//! The CNI server: one request and one response for each connection, a line of JSON each.

use std::{io, sync::Arc, time::Duration};

use redirect_cni::protocol::{MAX_LINE, PROTOCOL, PluginRequest, Response};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::watch,
    time::timeout,
};

use super::{handler::CniHandler, socket::Socket};
use crate::accept;

/// Time limit for a line: both sides are programs of this machine.
const LINE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves the plugin until the agent is stopped.
pub async fn serve(socket: Socket, handler: CniHandler, stopping: watch::Receiver<bool>) {
    let handler = Arc::new(handler);
    let serve_connection = |stream| serve_connection(stream, Arc::clone(&handler));
    accept::serve_each(socket, serve_connection, stopping).await;
}

async fn serve_connection(mut stream: UnixStream, handler: Arc<CniHandler>) -> io::Result<()> {
    let user = stream.peer_cred()?.uid();
    // The request is read also of a user that is refused: a peer that is cut off while it writes misses the reason.
    let request = read_request(&mut stream).await?;
    let response = match request {
        _ if user != 0 => refusal(format!("only root may connect, and this is user {user}")),
        Ok(request) => handler.handle(request.operation).await,
        Err(reason) => refusal(reason),
    };
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    timeout(LINE_TIMEOUT, stream.write_all(&line)).await?
}

const fn refusal(reason: String) -> Response {
    Response::Failed {
        reason,
        retry: false,
    }
}

/// The part of a request that every version of the protocol has.
#[derive(Deserialize)]
struct Versioned {
    protocol: u32,
}

/// Reads a request. The inner error says why a line is not a request.
async fn read_request(stream: &mut UnixStream) -> io::Result<Result<PluginRequest, String>> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream.take(MAX_LINE));
    timeout(LINE_TIMEOUT, reader.read_until(b'\n', &mut line)).await??;
    Ok(parse(&line))
}

fn parse(line: &[u8]) -> Result<PluginRequest, String> {
    if !line.ends_with(b"\n") {
        return Err(format!(
            "the request is not a whole line: it ends after {} bytes, and {MAX_LINE} are allowed",
            line.len()
        ));
    }
    let unreadable = |error| format!("the request cannot be read: {error}");
    let Versioned { protocol } = serde_json::from_slice(line).map_err(unreadable)?;
    if protocol != PROTOCOL {
        return Err(format!(
            "the request is in version {protocol} of the protocol, and the agent's is {PROTOCOL}: install the redirect-cni that came with this redirect-agent"
        ));
    }
    serde_json::from_slice(line).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use redirect_cni::protocol::Operation;

    use super::*;

    #[test]
    fn a_line_that_is_not_a_request_is_refused_with_the_reason() {
        for (line, words) in [
            ("", "ends after 0 bytes"),
            ("{\"protocol\": 1", "ends after 14 bytes"),
            ("status\n", "cannot be read: expected value"),
            ("{}\n", "missing field `protocol`"),
            (
                "{\"protocol\": 2, \"pray\": 1}\n",
                "version 2 of the protocol, and the agent's is 1: install",
            ),
            (
                "{\"protocol\": 1, \"operation\": \"MERCY\"}\n",
                "unknown variant `MERCY`",
            ),
            (
                "{\"protocol\": 1, \"operation\": \"ADD\"}\n",
                "container_id",
            ),
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
        let status = parse(b"{\"protocol\": 1, \"operation\": \"STATUS\"}\n").unwrap();
        assert_eq!(status.operation, Operation::Status);
    }
}
