// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first half of a dial in a worker: makes the socket and connects it.

use std::{io, time::Instant};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::connect_unspec,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{
    exchange::exchange,
    outcome::{DialOutcome, DialReport},
    request::{Dial, DialSequence, Mode},
};
use crate::{
    addr,
    sockopt::{set_bind_address_no_port, set_fastopen_connect},
    uring,
    wait::time_left,
};

/// Makes one connection on a new socket.
pub(crate) fn dial(request: &Dial) -> io::Result<DialReport> {
    if let Some(socket_identity) = &request.socket_identity {
        return socket_identity
            .create_and_connect(|| open(request), |socket| dial_on(socket, request));
    }
    let socket = open(request)?;
    Ok(dial_on(&socket, request))
}

/// Makes two connections on one socket.
pub(crate) fn dial_sequence(request: &DialSequence) -> io::Result<(DialReport, DialReport)> {
    let socket = open(&request.first)?;
    let first = dial_on(&socket, &request.first);
    if request.disconnect {
        connect_unspec(&socket)?;
    }
    Ok((first, dial_on(&socket, &request.second)))
}

/// Makes a socket of the right family, and binds it if the test asks for that. If binding fails, the test is
/// wrong, so the result is an error and not an outcome.
fn open(request: &Dial) -> io::Result<Socket> {
    let domain = if request.is_ipv6_socket() {
        Domain::IPV6
    } else {
        Domain::IPV4
    };
    let (kind, protocol) = if request.mode == Mode::Udp {
        (Type::DGRAM, Protocol::UDP)
    } else if request.multipath {
        (Type::STREAM, Protocol::MPTCP)
    } else {
        (Type::STREAM, Protocol::TCP)
    };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    if let Some(device) = &request.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    if request.late_port {
        set_bind_address_no_port(&socket)?;
    }
    if let Some(local) = request.bind {
        socket.bind(&request.sock_addr(local))?;
    }
    Ok(socket)
}

fn dial_on(socket: &Socket, request: &Dial) -> DialReport {
    let deadline = Instant::now() + request.timeout;
    if let Err(error) = connect(socket, request, deadline) {
        return DialReport::failed(&error);
    }
    let peername = addr::reported(socket.peer_addr());
    let sockname = addr::reported(socket.local_addr());
    let (answer, echoed) = exchange(socket, request, deadline);
    DialReport {
        outcome: DialOutcome::Connected(answer),
        peername,
        sockname,
        echoed,
    }
}

/// Connects, and in the fast open modes sends the first bytes.
fn connect(socket: &Socket, request: &Dial, deadline: Instant) -> io::Result<()> {
    let to = request.sock_addr(request.to);
    // SO_SNDTIMEO limits a blocking connect as well.
    socket.set_write_timeout(Some(time_left(deadline)))?;
    match request.mode {
        Mode::Blocking => socket.connect(&to).map_err(timed_out),
        Mode::Udp => {
            socket.connect(&to)?;
            socket.send(first_bytes(request)).map(drop)
        }
        Mode::NonBlocking => {
            socket.set_nonblocking(true)?;
            start_connect(socket, &to)?;
            finish_connect(socket, deadline)?;
            socket.set_nonblocking(false)
        }
        Mode::IoUring => uring::connect(socket, &to, time_left(deadline), false),
        Mode::IoUringPolled => uring::connect(socket, &to, time_left(deadline), true),
        Mode::FastOpen => socket
            .send_to_with_flags(first_bytes(request), &to, libc::MSG_FASTOPEN)
            .map(drop)
            .map_err(timed_out),
        Mode::FastOpenConnect => {
            set_fastopen_connect(socket)?;
            // Without a cookie for this destination, the kernel connects in the usual way.
            socket.connect(&to).map_err(timed_out)?;
            socket.send(first_bytes(request)).map_err(timed_out)?;
            finish_connect(socket, deadline)
        }
    }
}

/// Starts a connect without waiting for it: `EINPROGRESS` is success.
pub(crate) fn start_connect(socket: &Socket, to: &SockAddr) -> io::Result<()> {
    match socket.connect(to) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        result => result,
    }
}

/// Waits until a started connect has succeeded or failed.
fn finish_connect(socket: &Socket, deadline: Instant) -> io::Result<()> {
    let limit = Timespec::try_from(time_left(deadline)).map_err(io::Error::other)?;
    let ready = poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&limit))?;
    if ready == 0 {
        return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
    }
    socket.take_error()?.map_or(Ok(()), Err)
}

/// Converts the error of a blocking call whose `SO_SNDTIMEO` has run out to `ETIMEDOUT`.
pub(crate) fn timed_out(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EINPROGRESS | libc::EAGAIN) => io::Error::from_raw_os_error(libc::ETIMEDOUT),
        _ => error,
    }
}

fn first_bytes(request: &Dial) -> &[u8] {
    request.send.as_deref().unwrap_or(b"hello")
}
