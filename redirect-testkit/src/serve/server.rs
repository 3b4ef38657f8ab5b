// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server inside a worker, which runs in threads of its own until it is stopped.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    sync::Arc,
    thread,
};

use socket2::Socket;

use super::{
    accepted::{AcceptedCounts, Counts},
    listener::{accept, listen},
    proxy_protocol,
    request::{Behaviour, Serve},
};
use crate::{
    addr,
    banner::{Banner, original_destination},
    http,
};

/// The number of connections that a server keeps open after the banner, so that the client closes first. It is
/// enough for the concurrency of any flood; the oldest connection is closed when it is exceeded.
const KEPT: usize = 512;

/// A running server. Dropping it stops the server.
#[derive(Debug)]
pub(crate) struct Server {
    listener: Arc<Socket>,
    counts: Arc<Counts>,
}

impl Server {
    /// Starts a server. It listens when this returns.
    pub(crate) fn start(serve: &Serve) -> io::Result<(Self, SocketAddr)> {
        let listener = Arc::new(listen(serve)?);
        let counts = Arc::new(Counts::default());
        let bound = addr::reported(listener.local_addr()).unwrap_or(serve.listen);
        let server = Self {
            listener: Arc::clone(&listener),
            counts: Arc::clone(&counts),
        };
        let (behaviour, name) = (serve.behaviour, serve.name.clone());
        let work = move || match behaviour {
            Behaviour::Banner => banners(&listener, &counts, |socket| Banner::of(&name, socket)),
            Behaviour::BannerAndQueries => banners(&listener, &counts, |socket| {
                Banner::of(&name, socket).with_queries(socket)
            }),
            Behaviour::QueryAndClose => query_and_close(&listener, &counts),
            Behaviour::BannerAndEcho => each_in_a_thread(&listener, &counts, &name, echo),
            Behaviour::ProxyProtocol => proxy_protocol::serve(&listener, &counts, &name),
            Behaviour::Http => each_in_a_thread(&listener, &counts, &name, http::answer),
            Behaviour::Udp => answer_datagrams(&listener, &counts, &name),
            Behaviour::NeverAccept => {}
        };
        thread::Builder::new()
            .name(serve.name.chars().take(15).collect())
            .spawn(work)?;
        Ok((server, bound))
    }

    pub(crate) fn accepted(&self) -> AcceptedCounts {
        self.counts.accepted()
    }
}

impl Drop for Server {
    /// Shuts the listener down, which wakes its thread with an error and so ends it.
    fn drop(&mut self) {
        drop(self.listener.shutdown(Shutdown::Both));
    }
}

fn banners(listener: &Socket, counts: &Counts, banner: impl Fn(&Socket) -> Banner) {
    let mut kept = VecDeque::with_capacity(KEPT);
    while let Some(socket) = accept(listener) {
        send_banner(&socket, counts, &banner(&socket));
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(socket);
    }
}

fn send_banner(mut socket: &Socket, counts: &Counts, banner: &Banner) {
    counts.add(banner.local, banner.orig_dst);
    // An error means that the client has closed the connection already.
    drop(socket.write_all(&banner.line()));
}

fn query_and_close(listener: &Socket, counts: &Counts) {
    while let Some(socket) = accept(listener) {
        let orig_dst = original_destination(&socket).ok().flatten();
        counts.add(addr::reported(socket.local_addr()), orig_dst);
    }
}

fn each_in_a_thread(
    listener: &Socket,
    counts: &Arc<Counts>,
    name: &str,
    work: fn(&Socket, &Banner),
) {
    while let Some(socket) = accept(listener) {
        let banner = Banner::of(name, &socket);
        counts.add(banner.local, banner.orig_dst);
        thread::spawn(move || work(&socket, &banner));
    }
}

fn echo(mut socket: &Socket, banner: &Banner) {
    let mut chunk = [0; 4096];
    let mut sent = socket.write_all(&banner.line());
    while let (Ok(()), Ok(count @ 1..)) = (&sent, socket.read(&mut chunk)) {
        sent = socket.write_all(chunk.get(..count).unwrap_or_default());
    }
}

fn answer_datagrams(socket: &Socket, counts: &Counts, name: &str) {
    let mut chunk = [std::mem::MaybeUninit::uninit(); 2048];
    while let Ok((_, from)) = socket.recv_from(&mut chunk) {
        // A socket that is shut down returns an empty datagram without a source.
        let Some(peer) = from.as_socket().map(addr::canonical) else {
            return;
        };
        let local = addr::reported(socket.local_addr());
        counts.add(local, None);
        let banner = Banner {
            server: name.to_owned(),
            orig_dst: None,
            orig_dst_error: None,
            peer: Some(peer),
            local,
            orig_dst_queries: Vec::new(),
        };
        drop(socket.send_to(&banner.line(), &from));
    }
}
