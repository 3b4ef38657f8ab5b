// SPDX-License-Identifier: MIT OR Apache-2.0
//! A minimal HTTP/1.1 client and server: one GET, one answer, which is all that a test of a proxy needs.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::{banner::Banner, errno};

/// The maximum size of a request or an answer; those of tests are smaller.
const LIMIT: usize = 4 << 20;

/// One GET request on a connection of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpGet {
    /// The address to connect to.
    pub to: SocketAddr,
    /// The path.
    pub path: String,
    /// The `Host` header; the address by default.
    pub host: String,
    /// The time limit of each step.
    pub timeout: Duration,
}

impl HttpGet {
    /// Makes a `GET /` of this address, with a limit of five seconds.
    pub fn to(to: SocketAddr) -> Self {
        Self {
            to,
            path: "/".to_owned(),
            host: to.to_string(),
            timeout: Duration::from_secs(5),
        }
    }

    /// Sets the path.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Sets the `Host` header.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }
}

/// The answer to a GET.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpAnswer {
    /// An HTTP response.
    Response {
        /// The status code.
        status: u16,
        /// The `server` header. Envoy puts its own name there.
        server: Option<String>,
        /// The body.
        body: String,
    },
    /// The connection was established, and closed or reset without a response.
    Closed,
    /// The connection failed with `ECONNREFUSED`.
    Refused,
    /// The connection failed with another error.
    Failed {
        /// The errno.
        errno: i32,
        /// The errno's name.
        name: String,
    },
}

impl HttpAnswer {
    /// The status code of a response.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Response { status, .. } => Some(*status),
            Self::Closed | Self::Refused | Self::Failed { .. } => None,
        }
    }

    /// The `server` header of a response.
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::Response { server, .. } => server.as_deref(),
            Self::Closed | Self::Refused | Self::Failed { .. } => None,
        }
    }

    /// The body of a response; empty if there is no response.
    pub fn body(&self) -> &str {
        match self {
            Self::Response { body, .. } => body,
            Self::Closed | Self::Refused | Self::Failed { .. } => "",
        }
    }

    /// The banner in the body, if a server of this kit answered.
    pub fn banner(&self) -> Option<Banner> {
        Banner::parse(self.body())
    }

    fn failed(error: &io::Error) -> Self {
        match errno::of(error) {
            libc::ECONNREFUSED => Self::Refused,
            number => Self::Failed {
                errno: number,
                name: errno::name(number),
            },
        }
    }
}

/// Makes the request.
pub(crate) fn get(request: &HttpGet) -> HttpAnswer {
    let socket = match connect(request) {
        Ok(socket) => socket,
        Err(error) => return HttpAnswer::failed(&error),
    };
    let mut stream = &socket;
    let HttpGet { path, host, .. } = request;
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let exchanged = stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.take(LIMIT as u64).read_to_end(&mut answer));
    match (parse(&String::from_utf8_lossy(&answer)), exchanged) {
        (Some(response), _) => response,
        (None, Err(error)) if !is_gone(&error) => HttpAnswer::failed(&error),
        (None, _) => HttpAnswer::Closed,
    }
}

fn connect(request: &HttpGet) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(request.to), Type::STREAM, None)?;
    socket.set_read_timeout(Some(request.timeout))?;
    socket.set_write_timeout(Some(request.timeout))?;
    socket.connect(&request.to.into())?;
    Ok(socket)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ECONNRESET | libc::EPIPE))
}

fn parse(text: &str) -> Option<HttpAnswer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let header = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(key, value)| {
                key.eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
    };
    let is_chunked =
        header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let body = if is_chunked {
        dechunk(body)
    } else {
        body.to_owned()
    };
    Some(HttpAnswer::Response {
        status,
        server: header("server"),
        body,
    })
}

/// Joins the chunks of a body, up to the first that is malformed.
fn dechunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let chunk = usize::from_str_radix(size.trim(), 16)
            .ok()
            .filter(|&size| size > 0);
        let Some((chunk, rest)) = chunk.and_then(|size| rest.split_at_checked(size)) else {
            break;
        };
        whole.push_str(chunk);
        body = rest.trim_start_matches("\r\n");
    }
    whole
}

/// Answers requests on a server's connection until the client closes it or asks to close.
pub(crate) fn answer(mut socket: &Socket, banner: &Banner) {
    let mut text = String::new();
    let mut chunk = [0; 4096];
    while text.len() < LIMIT {
        let Ok(count @ 1..) = socket.read(&mut chunk) else {
            return;
        };
        text.push_str(&String::from_utf8_lossy(
            chunk.get(..count).unwrap_or_default(),
        ));
        while let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let is_last = head
                .lines()
                .any(|line| line.eq_ignore_ascii_case("connection: close"));
            let sent = socket.write_all(&response(banner, is_last));
            if is_last || sent.is_err() {
                return;
            }
            text = rest.to_owned();
        }
    }
}

fn response(banner: &Banner, is_last: bool) -> Vec<u8> {
    let body = banner.line();
    let connection = if is_last { "close" } else { "keep-alive" };
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        banner.server,
        body.len()
    );
    [head.into_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_joined() {
        let text = "HTTP/1.1 200 OK\r\nServer: envoy\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let answer = parse(text).expect("a response");
        assert_eq!(
            (answer.status(), answer.server(), answer.body()),
            (Some(200), Some("envoy"), "abcde")
        );
    }

    #[test]
    fn an_incomplete_head_is_no_response() {
        assert_eq!(parse("HTTP/1.1 200 OK\r\nServer: x"), None);
    }
}
