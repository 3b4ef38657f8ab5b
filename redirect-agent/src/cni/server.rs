//! The server: a question and an answer for each connection, as lines.

use std::{io, sync::Arc, time::Duration};

use redirect_cni::protocol::{Answer, MAX_LINE, PROTOCOL, Question};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::watch,
    time::timeout,
};

use super::{desk::Desk, socket::Socket};
use crate::accept;

/// How long a line may take: both sides are programs of this machine.
const LINE: Duration = Duration::from_secs(5);
/// Answers whoever asks, until it is told to stop.
pub async fn serve(socket: Socket, desk: Desk, stopping: watch::Receiver<bool>) {
    let desk = Arc::new(desk);
    let converse = |stream| converse(stream, Arc::clone(&desk));
    accept::each(socket, converse, stopping).await;
}

async fn converse(mut stream: UnixStream, desk: Arc<Desk>) -> io::Result<()> {
    let asker = stream.peer_cred()?.uid();
    // In any case: who is hung up on while writing does not hear why.
    let question = question(&mut stream).await?;
    let answer = match question {
        _ if asker != 0 => refusal(format!("only root may ask, and this is user {asker}")),
        Ok(question) => desk.answer(question.ask).await,
        Err(reason) => refusal(reason),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    timeout(LINE, stream.write_all(&line)).await?
}

const fn refusal(reason: String) -> Answer {
    Answer::Failed {
        reason,
        again: false,
    }
}

/// The part that every version of the protocol has.
#[derive(Deserialize)]
struct Versioned {
    protocol: u32,
}

/// Reads a question; says what is wrong with it if it is none.
async fn question(stream: &mut UnixStream) -> io::Result<Result<Question, String>> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream.take(MAX_LINE));
    timeout(LINE, reader.read_until(b'\n', &mut line)).await??;
    Ok(parse(&line))
}

fn parse(line: &[u8]) -> Result<Question, String> {
    if !line.ends_with(b"\n") {
        return Err(format!(
            "the question is no line: it ends after {} bytes, and {MAX_LINE} are allowed",
            line.len()
        ));
    }
    let unreadable = |error| format!("the question cannot be read: {error}");
    let Versioned { protocol } = serde_json::from_slice(line).map_err(unreadable)?;
    if protocol != PROTOCOL {
        return Err(format!(
            "the question is in version {protocol} of the protocol, and the agent's is {PROTOCOL}: install the redirect-cni that came with this redirect-agent"
        ));
    }
    serde_json::from_slice(line).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use redirect_cni::protocol::Ask;

    use super::*;

    #[test]
    fn what_is_no_question_is_told_from_what_is() {
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
                "{\"protocol\": 1, \"ask\": \"mercy\"}\n",
                "unknown variant `mercy`",
            ),
            ("{\"protocol\": 1, \"ask\": \"add\"}\n", "container_id"),
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
        let status = parse(b"{\"protocol\": 1, \"ask\": \"status\"}\n").unwrap();
        assert_eq!(status.ask, Ask::Status);
    }
}
