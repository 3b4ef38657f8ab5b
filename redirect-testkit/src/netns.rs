// SPDX-License-Identifier: MIT OR Apache-2.0
//! Named network namespaces, made with `ip` so that `ip netns exec NAME` helps when debugging.

use std::{fs, path::PathBuf, thread};

use anyhow::{Context as _, Result, anyhow};
use rustix::{
    fd::AsFd as _,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::command;

/// Where `ip netns add` binds the namespace.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

/// Makes the namespace.
pub(crate) fn add(name: &str) -> Result<()> {
    command::output("ip", &["netns", "add", name], "").map(drop)
}

/// Makes many of them.
pub(crate) fn add_all(names: &[&str]) -> Result<()> {
    let lines: Vec<_> = names
        .iter()
        .map(|name| format!("netns add {name}"))
        .collect();
    command::output("ip", &["-batch", "-"], &lines.join("\n")).map(drop)
}

/// Gives a process's namespace a name.
pub(crate) fn attach(name: &str, pid: u32) -> Result<()> {
    command::output("ip", &["netns", "attach", name, &pid.to_string()], "").map(drop)
}

/// Removes the namespace's name; a missing one is fine. The namespace itself, with its devices,
/// goes when the last process in it does.
pub(crate) fn remove(name: &str) -> Result<()> {
    if path(name).exists() {
        command::output("ip", &["netns", "del", name], "").map(drop)
    } else {
        Ok(())
    }
}

/// Runs `ip` commands, one a line, in the namespace.
pub(crate) fn batch(name: &str, lines: &str) -> Result<()> {
    command::output("ip", &["-n", name, "-batch", "-"], lines).map(drop)
}

/// Does something in a named network namespace, in a thread of its own. Sockets that it makes there stay there.
pub fn in_netns<T: Send>(name: &str, act: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| enter(name).map(|()| act()));
        thread
            .join()
            .map_err(|_panic| anyhow!("a panic in the network namespace {name}"))?
    })
}

/// Moves the calling thread into the namespace: all of a process only if there is no other.
pub(crate) fn enter(name: &str) -> Result<()> {
    let path = path(name);
    let file = fs::File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("entering the network namespace {name}"))
}
