//! The iptables rules of a network namespace, as `iptables-save` prints them in it. No rule is
//! changed.
#![expect(
    clippy::disallowed_methods,
    reason = "only iptables can print its own rules"
)]

use std::{
    io::ErrorKind,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, bail};

use super::{netfilter, netns::NetnsRef};

/// The output of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The name of the program.
    pub program: &'static str,
    /// The rules that it printed.
    pub text: String,
}

/// The programs for IPv4: one for each backend of the kernel, and the one that is used if neither
/// is installed.
pub const V4: [&str; 3] = ["iptables-legacy-save", "iptables-nft-save", "iptables-save"];
/// The programs for IPv6.
pub const V6: [&str; 3] = [
    "ip6tables-legacy-save",
    "ip6tables-nft-save",
    "ip6tables-save",
];

/// Runs the programs of one family in a namespace, and returns the output of each backend that has
/// a program. Needs `CAP_NET_ADMIN` in the namespace, and `CAP_SYS_ADMIN` to enter another
/// namespace.
pub fn save(netns: &NetnsRef, programs: [&'static str; 3]) -> Result<Vec<Saved>> {
    let [legacy, nft, any] = programs;
    let save = || {
        let mut saved = Vec::new();
        for program in [legacy, nft] {
            saved.extend(run(program)?);
        }
        if saved.is_empty() {
            saved.extend(run(any)?);
        }
        Ok(saved)
    };
    let saved = netns
        .open()?
        .inside(save)
        .with_context(|| format!("read the rules of network namespace \"{netns}\""))?;
    if saved.is_empty() {
        bail!("run {any}: it is not installed: install iptables, or give its output as a file");
    }
    Ok(saved)
}

/// Whether a namespace has a chain of this name, whichever program has created it.
pub fn has_chain(netns: &NetnsRef, name: &str) -> Result<bool> {
    netns
        .open()?
        .inside(|| Ok(netfilter::has_chain(name)?))
        .with_context(|| format!("look for rules in network namespace \"{netns}\""))
}

/// The output of a program; `None` if it is not installed.
fn run(program: &'static str) -> Result<Option<Saved>> {
    let Output {
        status,
        stdout,
        stderr,
    } = match Command::new(program).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        output => output.with_context(|| format!("run {program}"))?,
    };
    if !status.success() {
        let stderr = String::from_utf8_lossy(&stderr);
        bail!("run {program}: it ended with {status}: {}", stderr.trim());
    }
    Ok(Some(Saved {
        program,
        text: String::from_utf8_lossy(&stdout).into_owned(),
    }))
}
