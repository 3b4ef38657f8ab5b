// SPDX-License-Identifier: MIT OR Apache-2.0
//! The second half of a dial in a worker: sends, then reads the banner and the echo.

use std::{
    io::{self, Read as _, Write as _},
    time::Instant,
};

use socket2::Socket;

use super::{
    outcome::Answer,
    request::{Dial, Mode},
};
use crate::{banner::Banner, errno, wait::time_left};

const fn has_sent(mode: Mode) -> bool {
    matches!(mode, Mode::FastOpen | Mode::FastOpenConnect | Mode::Udp)
}

/// Sends the bytes, reads the banner, and reads the echo.
pub(super) fn exchange(
    socket: &Socket,
    request: &Dial,
    deadline: Instant,
) -> (Answer, Option<Vec<u8>>) {
    if let Some(bytes) = request.send.as_deref().filter(|_| !has_sent(request.mode)) {
        let mut stream = socket;
        if let Err(error) = stream.write_all(bytes) {
            return (ended(&error), None);
        }
    }
    let mut rest = Vec::new();
    let answer = if request.banner {
        read_answer(socket, &mut rest, deadline)
    } else {
        Answer::NotAwaited
    };
    let echoed = request.echo.then(|| {
        let wanted = request.send.as_ref().map_or(0, Vec::len);
        while rest.len() < wanted && matches!(read_more(socket, &mut rest, deadline), Ok(1..)) {}
        rest
    });
    (answer, echoed)
}

/// Reads a line as the server's answer. Bytes after the line stay in `rest`.
pub(crate) fn read_answer(socket: &Socket, rest: &mut Vec<u8>, deadline: Instant) -> Answer {
    loop {
        if let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            return Banner::parse(&line)
                .map_or_else(|| Answer::Other(line.into_owned()), Answer::Banner);
        }
        match read_more(socket, rest, deadline) {
            Ok(0) if rest.is_empty() => return Answer::Closed,
            Ok(0) => return Answer::Other(String::from_utf8_lossy(rest).into_owned()),
            Ok(_) => {}
            Err(error) => return ended(&error),
        }
    }
}

fn read_more(mut socket: &Socket, into: &mut Vec<u8>, deadline: Instant) -> io::Result<usize> {
    let mut chunk = [0; 2048];
    let count = loop {
        socket.set_read_timeout(Some(time_left(deadline)))?;
        match socket.read(&mut chunk) {
            // The remains of an io_uring interrupt the thread that had it.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    into.extend(chunk.iter().take(count));
    Ok(count)
}

fn ended(error: &io::Error) -> Answer {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Answer::Silent,
        Some(libc::ECONNRESET | libc::EPIPE) => Answer::Reset,
        other => Answer::Other(errno::name(other.unwrap_or(libc::EIO))),
    }
}
