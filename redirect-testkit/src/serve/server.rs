// SPDX-License-Identifier: MIT OR Apache-2.0
//! Named servers inside a worker: each runs in threads of its own until stopped.

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

/// Greeted connections a server keeps open, so that it is the client who closes. Enough for any
/// flood's concurrency; the oldest goes first.
const KEPT: usize = 512;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    listener: Arc<Socket>,
    counts: Arc<Counts>,
}

impl Server {
    /// Listens, then serves in a thread; a connection made from now on is served.
    pub(crate) fn start(serve: &Serve) -> io::Result<(Self, SocketAddr)> {
        let listener = Arc::new(listen(serve)?);
        let counts = Arc::new(Counts::default());
        let bound = addr::reported(listener.local_addr()).unwrap_or(serve.listen);
        let (ears, tally, name) = (
            Arc::clone(&listener),
            Arc::clone(&counts),
            serve.name.clone(),
        );
        let behaviour = serve.behaviour;
        let work = move || match behaviour {
            Behaviour::Banner => greet(&ears, &tally, |socket| Banner::of(&name, socket)),
            Behaviour::BannerAndQueries => greet(&ears, &tally, |socket| {
                Banner::of(&name, socket).with_queries(socket)
            }),
            Behaviour::QueryAndClose => ask_and_close(&ears, &tally),
            Behaviour::BannerAndEcho => each_in_a_thread(&ears, &tally, &name, echo),
            Behaviour::ProxyProtocol => proxy_protocol::serve(&ears, &tally, &name),
            Behaviour::Http => each_in_a_thread(&ears, &tally, &name, http::answer),
            Behaviour::Udp => answer_datagrams(&ears, &tally, &name),
            Behaviour::NeverAccept => {}
        };
        thread::Builder::new()
            .name(serve.name.chars().take(15).collect())
            .spawn(work)?;
        Ok((Self { listener, counts }, bound))
    }

    pub(crate) fn accepted(&self) -> AcceptedCounts {
        self.counts.accepted()
    }
}

impl Drop for Server {
    /// A shut-down listener wakes its thread with an error, upon which it ends.
    fn drop(&mut self) {
        drop(self.listener.shutdown(Shutdown::Both));
    }
}

fn greet(listener: &Socket, counts: &Counts, banner: impl Fn(&Socket) -> Banner) {
    let mut kept = VecDeque::with_capacity(KEPT);
    while let Some(socket) = accept(listener) {
        say_hello(&socket, counts, &banner(&socket));
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(socket);
    }
}

fn say_hello(mut socket: &Socket, counts: &Counts, banner: &Banner) {
    counts.add(banner.local, banner.orig_dst);
    // A client that is gone already does not matter.
    drop(socket.write_all(&banner.line()));
}

fn ask_and_close(listener: &Socket, counts: &Counts) {
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
        // A shut-down socket returns nothing, from nobody.
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
