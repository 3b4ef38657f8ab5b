// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that reads the PROXY protocol (version 1), and so distinguishes connections of a proxy from direct ones.
//!
//! Addresses do not distinguish them: a sidecar dials from its application's address.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    thread,
};

use socket2::Socket;

use super::{accepted::Counts, listener::accept};
use crate::{addr, banner::Banner};

/// The maximum length of a line of version 1.
const LINE: u64 = 107;

pub(super) fn serve(listener: &Socket, counts: &Arc<Counts>, name: &str) {
    while let Some(socket) = accept(listener) {
        counts.add_silent();
        let (counts, name) = (Arc::clone(counts), name.to_owned());
        thread::spawn(move || answer(&socket, &counts, &name));
    }
}

/// Reads the first line of a connection, and sends the banner. A connection that breaks gets no banner.
fn answer(mut socket: &Socket, counts: &Counts, name: &str) {
    let mut input = BufReader::new(socket);
    let Some(first) = line(&mut input) else {
        return;
    };
    let proxied = ProxyHeader::parse(&first);
    counts.add_heard(proxied.is_some());
    if proxied.is_some() && line(&mut input).is_none() {
        return;
    }
    let banner = Banner {
        server: name.to_owned(),
        orig_dst: proxied.map(|proxied| proxied.destination),
        orig_dst_error: None,
        peer: proxied.map_or_else(
            || addr::reported(socket.peer_addr()),
            |proxied| Some(proxied.source),
        ),
        local: addr::reported(socket.local_addr()),
        orig_dst_queries: Vec::new(),
    };
    if socket.write_all(&banner.line()).is_ok() {
        // The client closes first, so that TIME-WAIT takes none of this side's ports.
        drop(input.read_to_end(&mut Vec::new()));
    }
}

fn line(input: &mut BufReader<&Socket>) -> Option<String> {
    let mut line = String::new();
    input.take(LINE).read_line(&mut line).ok()?;
    line.ends_with('\n').then_some(line)
}

/// The header of a connection that a proxy makes: the client's address and its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProxyHeader {
    source: SocketAddr,
    destination: SocketAddr,
}

impl ProxyHeader {
    /// Parses `PROXY TCP4 SOURCE DESTINATION PORT PORT`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("PROXY TCP")?.split_ascii_whitespace();
        let mut addresses = words
            .by_ref()
            .skip(1)
            .map(|word| word.parse::<IpAddr>().ok());
        let (source, destination) = (addresses.next()??, addresses.next()??);
        drop(addresses);
        let mut ports = words.map(|word| word.parse().ok());
        let address = |ip, port: Option<Option<u16>>| Some(SocketAddr::new(ip, port??));
        Some(Self {
            source: address(source, ports.next())?,
            destination: address(destination, ports.next())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_version_1_is_parsed() {
        let header = "PROXY TCP4 10.88.0.2 36.152.44.96 41000 9000\r\n";
        assert_eq!(
            ProxyHeader::parse(header),
            Some(ProxyHeader {
                source: ([10, 88, 0, 2], 41000).into(),
                destination: ([36, 152, 44, 96], 9000).into(),
            })
        );
        for other in ["\n", "PROXY UNKNOWN\r\n", "PROXY TCP4 10.88.0.2\r\n"] {
            assert_eq!(ProxyHeader::parse(other), None, "{other}");
        }
    }
}
