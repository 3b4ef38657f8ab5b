//! Listening sockets of other processes, found by port.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::{
        fd::{OwnedFd, RawFd},
        unix::fs::MetadataExt as _,
    },
};

use anyhow::{Context as _, Result, bail};
use redirect_common::facts::Transport;
use rustix::{
    fs::fstat,
    io::Errno,
    net::sockopt::socket_cookie,
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

/// A listening socket of another process, with a descriptor of it in this process.
#[derive(Debug)]
pub struct ListeningSocket {
    /// The descriptor.
    pub socket: OwnedFd,
    /// The kernel's unique number of the socket.
    pub cookie: u64,
    /// Whether the socket listens at an IPv4 address.
    pub is_v4: bool,
}

/// The TCP sockets of these processes that listen at a port in one network namespace, which is
/// given by its inode. A process that has ended has none.
///
/// Needs `CAP_SYS_PTRACE` if there are such sockets. Since Linux 5.6.
pub fn find(processes: &[u32], netns: u64, port: u16) -> Result<Vec<ListeningSocket>> {
    let inside = |pid: &&u32| {
        fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|link| link.ino() == netns)
    };
    let mut families = BTreeMap::new();
    if let Some(pid) = processes.iter().find(inside) {
        for (table, is_v4) in [("tcp", true), ("tcp6", false)] {
            let sockets = at_port(&format!("/proc/{pid}/net/{table}"), Transport::Tcp, port)?;
            families.extend(sockets.into_iter().map(|socket| (socket.inode, is_v4)));
        }
    }
    let mut found = BTreeMap::new();
    if families.is_empty() {
        return Ok(Vec::new());
    }
    for pid in processes.iter().filter(inside) {
        for (number, inode) in sockets(*pid) {
            let (Some(is_v4), Entry::Vacant(slot)) = (families.get(&inode), found.entry(inode))
            else {
                continue;
            };
            if let Some(socket) = take(*pid, number, inode)? {
                let cookie = socket_cookie(&socket).context("read a socket's cookie")?;
                slot.insert(ListeningSocket {
                    socket,
                    cookie,
                    is_v4: *is_v4,
                });
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Whether any socket listens at a port of the current thread's network namespace, at any address.
pub fn is_served(transport: Transport, port: u16) -> Result<bool> {
    is_served_by("/proc/thread-self/net", transport, port, |_| true)
}

/// Whether a TCP socket listens at a port on all addresses of a process's network namespace.
/// `false` if the process has ended.
pub fn is_served_everywhere(pid: u32, port: u16) -> Result<bool> {
    let tables = format!("/proc/{pid}/net");
    is_served_by(&tables, Transport::Tcp, port, |socket| socket.is_wildcard)
}

fn is_served_by(
    tables: &str,
    transport: Transport,
    port: u16,
    counts: fn(&UnconnectedSocket) -> bool,
) -> Result<bool> {
    let protocol = match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    for suffix in ["", "6"] {
        let table = format!("{tables}/{protocol}{suffix}");
        if at_port(&table, transport, port)?.iter().any(counts) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A socket that accepts packets to a port from every peer.
struct UnconnectedSocket {
    inode: u64,
    /// Whether the socket accepts packets to every address.
    is_wildcard: bool,
}

/// The sockets that accept packets to a port from every peer.
fn at_port(table: &str, transport: Transport, port: u16) -> Result<Vec<UnconnectedSocket>> {
    // TCP_LISTEN and TCP_CLOSE (include/net/tcp_states.h), the state of an unconnected UDP socket.
    let state = match transport {
        Transport::Tcp => "0A",
        Transport::Udp => "07",
    };
    let file = match File::open(table) {
        // The process has ended, or the kernel has no IPv6.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.with_context(|| format!("open \"{table}\""))?,
    };
    let mut found = Vec::new();
    for line in BufReader::new(file).lines().skip(1) {
        let line = line.with_context(|| format!("read \"{table}\""))?;
        // "0: 00000000:3A9E 00000000:0000 0A …", the inode in the tenth column.
        let mut words = line.split_ascii_whitespace().skip(1);
        let local = words.next().and_then(|local| local.rsplit_once(':'));
        match (words.nth(1), transport) {
            (Some(is), _) if is == state => {}
            // The table lists listening sockets first (net/ipv4/tcp_ipv4.c, tcp_seek_last_pos).
            (_, Transport::Tcp) => break,
            (_, Transport::Udp) => continue,
        }
        let (Some((address, text)), Some(inode)) = (local, words.nth(5)) else {
            continue;
        };
        if u16::from_str_radix(text, 16).ok() == Some(port) {
            found.push(UnconnectedSocket {
                inode: inode
                    .parse()
                    .with_context(|| format!("read \"{table}\": {line}"))?,
                is_wildcard: address.bytes().all(|digit| digit == b'0'),
            });
        }
    }
    Ok(found)
}

/// The descriptor numbers and inodes of a process's sockets.
fn sockets(pid: u32) -> Vec<(RawFd, u64)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let socket = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        let inode = target
            .to_str()?
            .strip_prefix("socket:[")?
            .strip_suffix(']')?;
        Some((number, inode.parse().ok()?))
    };
    entries.flatten().filter_map(socket).collect()
}

/// A descriptor in this process of another process's socket; `None` if the socket is gone.
fn take(pid: u32, number: RawFd, inode: u64) -> Result<Option<OwnedFd>> {
    let taken = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .map(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .transpose()
        .and_then(|process| {
            process
                .map(|process| pidfd_getfd(process, number, PidfdGetfdFlags::empty()))
                .transpose()
        });
    match taken {
        // The descriptor may have been closed and its number reused.
        Ok(socket) => Ok(socket.filter(|socket| fstat(socket).is_ok_and(|is| is.st_ino == inode))),
        Err(Errno::SRCH | Errno::BADF) => Ok(None),
        Err(error @ Errno::PERM) => Err(error).with_context(|| {
            format!("take over the listening socket of process {pid} (needs CAP_SYS_PTRACE)")
        }),
        Err(error) => bail!("take over the listening socket of process {pid}: {error}"),
    }
}
