//! The rules of a network namespace, as `iptables-save` prints them there. Nothing is changed.
#![expect(
    clippy::disallowed_methods,
    reason = "only iptables can say what its own rules are"
)]

use std::{
    io::ErrorKind,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, bail};

use super::{netfilter, netns::NetnsRef};

/// What a program printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The program.
    pub program: &'static str,
    /// The rules.
    pub text: String,
}

/// The programs of IPv4: one for each backend of the kernel, or else the only one there is.
pub const V4: [&str; 3] = ["iptables-legacy-save", "iptables-nft-save", "iptables-save"];
/// Those of IPv6.
pub const V6: [&str; 3] = [
    "ip6tables-legacy-save",
    "ip6tables-nft-save",
    "ip6tables-save",
];

/// What the programs of one family print in a namespace, of each backend that has a program.
/// Needs `CAP_NET_ADMIN` there, and `CAP_SYS_ADMIN` to enter another namespace.
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

/// Whether a namespace has a chain of this name, written by whichever program.
pub fn has_chain(netns: &NetnsRef, name: &str) -> Result<bool> {
    netns
        .open()?
        .inside(|| Ok(netfilter::has_chain(name)?))
        .with_context(|| format!("look for rules in network namespace \"{netns}\""))
}

/// What a program prints; `None` if it is not installed.
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
