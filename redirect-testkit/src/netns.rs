// SPDX-License-Identifier: MIT OR Apache-2.0
//! Named network namespaces. They are made with `ip`, so that `ip netns exec NAME` helps in debugging.

use std::{fs, path::PathBuf, thread};

use anyhow::{Context as _, Result, anyhow};
use rustix::{
    fd::AsFd as _,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::command;

/// The file of a namespace, where `ip netns add` binds it.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

/// Makes a namespace.
pub(crate) fn add(name: &str) -> Result<()> {
    command::output("ip", &["netns", "add", name], "").map(drop)
}

/// Makes many namespaces with one command.
pub(crate) fn add_all(names: &[&str]) -> Result<()> {
    let lines: Vec<_> = names
        .iter()
        .map(|name| format!("netns add {name}"))
        .collect();
    command::output("ip", &["-batch", "-"], &lines.join("\n")).map(drop)
}

/// Gives the namespace of a process a name.
pub(crate) fn attach(name: &str, pid: u32) -> Result<()> {
    command::output("ip", &["netns", "attach", name, &pid.to_string()], "").map(drop)
}

/// Removes the name of a namespace; a missing one is no error. The namespace itself, with its devices, ends
/// with the last process in it.
pub(crate) fn remove(name: &str) -> Result<()> {
    if path(name).exists() {
        command::output("ip", &["netns", "del", name], "").map(drop)
    } else {
        Ok(())
    }
}

/// Runs `ip` commands, one per line, in a namespace.
pub(crate) fn batch(name: &str, lines: &str) -> Result<()> {
    command::output("ip", &["-n", name, "-batch", "-"], lines).map(drop)
}

/// Runs `act` in a named network namespace, in a thread of its own. Sockets that it makes stay in that namespace.
pub fn in_netns<T: Send>(name: &str, act: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| enter(name).map(|()| act()));
        thread
            .join()
            .map_err(|_panic| anyhow!("act in the network namespace {name}: the thread panicked"))?
    })
}

/// Moves the calling thread into a namespace. Other threads of the process stay where they are.
pub(crate) fn enter(name: &str) -> Result<()> {
    let path = path(name);
    let file = fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("enter the network namespace {name}"))
}
