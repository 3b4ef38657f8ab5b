//! What the running kernel can do, found by asking it: no version is compared with another.
//!
//! A [`Probe`] tries the real thing where that can be done without a trace: maps are made,
//! programs verified, and both are given up at once; nothing is mounted, pinned or attached.
//!
//! Depends on: `sys`, and the trial load of this module's siblings. Used by: `redirectctl doctor`.

use std::{fmt, fs, io, path::Path};

use anyhow::Error;
use redirect_common::{
    abi::MapName,
    hooks::{FLOOR, Hook, KernelVersion},
};
use rustix::{io::Errno, system::uname, thread::CapabilitySet};

use super::{
    Attempt, Trial,
    btf::{BtfError, owner_offsets},
    try_load,
};
use crate::sys::{
    bpffs::{MOUNT_POINT, is_bpffs},
    capability::{self, ADMIN, NEEDED},
    cgroup,
    netfilter::has_chain,
    netns::{Netns, NetnsRef},
    rcu,
};

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there.
    Present(String),
    /// It is not.
    Missing {
        /// What was seen.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// It could not be asked.
    Unknown(String),
}

impl Outcome {
    /// The outcome's name in text output and JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Present(_) => "present",
            Self::Missing { .. } => "missing",
            Self::Unknown(_) => "unknown",
        }
    }

    fn missing(reason: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self::Missing {
            reason: reason.to_string(),
            remedy: remedy.into(),
        }
    }
}

/// A question to the machine.
pub struct Probe {
    /// What is asked for.
    pub name: String,
    /// What would not work without it.
    pub needed_for: &'static str,
    /// The kernel that brought it, where it is the kernel that brings it.
    pub since: Option<KernelVersion>,
    /// Whether nothing works without it.
    pub required: bool,
    ask: Box<dyn Fn() -> Outcome>,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Probe {
    /// Asks.
    #[must_use]
    pub fn run(&self) -> Outcome {
        (self.ask)()
    }

    fn new(
        name: impl Into<String>,
        needed_for: &'static str,
        since: impl Into<Option<KernelVersion>>,
        ask: impl Fn() -> Outcome + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            needed_for,
            since: since.into(),
            required: true,
            ask: Box::new(ask),
        }
    }

    fn optional(self) -> Self {
        Self {
            required: false,
            ..self
        }
    }
}

const fn since(major: u16, minor: u16) -> KernelVersion {
    KernelVersion { major, minor }
}

/// Every question, in the order in which a reader would ask them. `owner` is the folder that will
/// hold all state.
pub fn probes(owner: &Path) -> Vec<Probe> {
    let owner = owner.to_owned();
    let mut probes =
        vec![Probe::new("kernel", "see the checks below; they count", FLOOR, kernel).optional()];
    probes.extend(NEEDED.map(|(name, capability, purpose)| {
        Probe::new(name, purpose, None, move || has(capability))
    }));
    let (name, capability, purpose) = ADMIN;
    probes.push(Probe::new(name, purpose, None, move || has(capability)).optional());
    probes.extend([
        Probe::new(
            "cgroup2",
            "what is redirected is a cgroup",
            since(4, 5),
            cgroup2,
        ),
        Probe::new(
            "bpffs",
            "keep state without a process",
            since(4, 4),
            move || bpffs(&owner),
        ),
        Probe::new(
            "kernel BTF",
            "find a socket's owner (-u, -g)",
            since(5, 4),
            btf,
        ),
        Probe::new(
            "netns cookie",
            "tell network namespaces apart",
            since(5, 14),
            netns,
        ),
        Probe::new(
            "membarrier",
            "update and detach without a gap",
            since(4, 3),
            membarrier,
        ),
    ]);
    let Trial { maps, programs } = try_load();
    probes.extend(maps.into_iter().map(|(map, attempt)| {
        let (needed_for, since) = about(map);
        Probe::new(
            format!("map {}", map.name()),
            needed_for,
            since,
            move || tried(&attempt),
        )
    }));
    probes.extend(programs.into_iter().map(|(hook, attempt)| {
        let name = format!("program {}", hook.program());
        Probe::new(name, brief(hook), hook.since(), move || tried(&attempt))
    }));
    probes
}

/// What is worth knowing and no reason to refuse.
pub fn hints() -> Vec<String> {
    let mut hints = Vec::new();
    match has_chain("ISTIO_OUTPUT") {
        Ok(true) => hints.push(
            "this network namespace has Istio's iptables rules (ISTIO_OUTPUT): they go on to redirect what the programs leave alone"
                .to_owned(),
        ),
        Ok(false) => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => hints.push(
            "could not look for Istio's iptables rules, which takes CAP_NET_ADMIN; nothing else needs it where there is CAP_SYS_ADMIN"
                .to_owned(),
        ),
        Err(error) => hints.push(format!("could not look for Istio's iptables rules: {error}")),
    }
    if hybrid() {
        hints.push(
            "version 1 cgroups are mounted too: a container that its runtime keeps only in those is not seen; its processes must be moved into a cgroup of version 2 before they make sockets"
                .to_owned(),
        );
    }
    if read("/proc/sys/net/core/bpf_jit_enable").is_some_and(|value| value.trim() == "0") {
        hints.push(
            "BPF programs are interpreted, which is slower: `sysctl net.core.bpf_jit_enable=1`"
                .to_owned(),
        );
    }
    hints
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The version is shown and judges nothing: distributions carry features back.
fn kernel() -> Outcome {
    let release = uname().release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if KernelVersion { major, minor } < FLOOR => Outcome::missing(
            format!("{release} is older than {FLOOR}"),
            format!("unless every other check passes, use Linux {FLOOR} or newer"),
        ),
        _ => Outcome::Present(release),
    }
}

fn has(capability: CapabilitySet) -> Outcome {
    match capability::has(capability) {
        Ok(true) => Outcome::Present(String::new()),
        Ok(false) => Outcome::missing(
            "this process does not have it",
            "run as root, or with this capability",
        ),
        Err(error) => Outcome::Unknown(format!("{error:#}")),
    }
}

fn cgroup2() -> Outcome {
    match cgroup::mounts() {
        Ok(mounts) if mounts.is_empty() => Outcome::missing(
            "it is not mounted",
            "`mount -t cgroup2 none FOLDER`, or boot with systemd.unified_cgroup_hierarchy=1",
        ),
        Ok(mounts) => {
            let paths: Vec<_> = mounts
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            Outcome::Present(paths.join(", "))
        }
        Err(error) => Outcome::Unknown(format!("{error:#}")),
    }
}

/// Whether there are controllers of version 1 besides.
fn hybrid() -> bool {
    read("/proc/self/mountinfo").is_some_and(|table| table.contains(" - cgroup "))
}

fn bpffs(owner: &Path) -> Outcome {
    let existing = owner
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(owner);
    match is_bpffs(existing) {
        Ok(true) => Outcome::Present(existing.display().to_string()),
        Ok(false) if owner.starts_with(MOUNT_POINT) && mountable() => Outcome::Present(format!(
            "not mounted yet; `attach` mounts it at {MOUNT_POINT}"
        )),
        Ok(false) => Outcome::missing(
            format!("\"{}\" is not on one", existing.display()),
            format!("`mount -t bpf bpf {MOUNT_POINT}`"),
        ),
        Err(error) => Outcome::Unknown(format!("{error:#}")),
    }
}

fn mountable() -> bool {
    let known = read("/proc/filesystems")
        .is_some_and(|kinds| kinds.lines().any(|kind| kind.ends_with("\tbpf")));
    known
        && Path::new(MOUNT_POINT).is_dir()
        && capability::has(CapabilitySet::SYS_ADMIN).unwrap_or(false)
}

fn btf() -> Outcome {
    match owner_offsets() {
        Ok(offsets) => Outcome::Present(format!(
            "sk_socket {}, file {}, f_cred {}, fsuid {}, fsgid {}",
            offsets.sk_socket, offsets.file, offsets.f_cred, offsets.fsuid, offsets.fsgid
        )),
        Err(BtfError::Missing { path, source })
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            Outcome::Unknown(format!("may not read \"{path}\""))
        }
        Err(error @ BtfError::Missing { .. }) => Outcome::missing(
            chain(&error.into()),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y",
        ),
        Err(error @ (BtfError::Malformed(_) | BtfError::NoMember { .. })) => Outcome::missing(
            chain(&error.into()),
            "this kernel lays a socket's owner out in a new way: please report its version",
        ),
    }
}

fn netns() -> Outcome {
    match Netns::read(&NetnsRef::Own) {
        Ok(netns) => Outcome::Present(netns.cookie.to_string()),
        Err(error) if denied(&error) => Outcome::Unknown(chain(&error)),
        Err(error) => Outcome::missing(chain(&error), format!("use Linux {FLOOR} or newer")),
    }
}

fn membarrier() -> Outcome {
    match rcu::grace_period() {
        Ok(()) => Outcome::Present(String::new()),
        Err(error) => Outcome::missing(
            chain(&error),
            "it is refused under nohz_full, and by some seccomp filters: boot without the one, or allow it in the other",
        ),
    }
}

fn tried(attempt: &Attempt) -> Outcome {
    let error = match attempt {
        Attempt::Taken => return Outcome::Present(String::new()),
        Attempt::NotTried(why) => return Outcome::Unknown((*why).to_owned()),
        Attempt::Refused(error) => error,
    };
    match capability::missing() {
        Ok(missing) if missing.is_empty() && denied(error) => Outcome::Unknown(not_permitted()),
        Ok(missing) if missing.is_empty() => Outcome::missing(chain(error), refused()),
        // Whatever the error is, the lack of a capability may be its cause: the verifier does not
        // know helpers that are not permitted.
        Ok(missing) => {
            let names: Vec<_> = missing.into_iter().map(|(name, _)| name).collect();
            Outcome::Unknown(format!(
                "refused, perhaps only for lack of {}",
                names.join(", ")
            ))
        }
        Err(error) => Outcome::Unknown(chain(&error)),
    }
}

/// Why the kernel may say EPERM to a process that has every capability.
fn not_permitted() -> String {
    if capability::in_first_user_namespace() {
        "not permitted by a seccomp filter, a security module or kernel lockdown".to_owned()
    } else {
        "not permitted in a user namespace: BPF asks for capabilities of the first one, so run it there".to_owned()
    }
}

fn refused() -> String {
    let lockdown = read("/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.contains("[confidentiality]") {
        return "kernel lockdown is \"confidentiality\", which forbids reading kernel memory: boot with \"integrity\" or none".to_owned();
    }
    format!("use Linux {FLOOR} or newer, built with CONFIG_CGROUP_BPF=y")
}

/// Whether the cause is EPERM. (EACCES is what the verifier says to a bad program.)
fn denied(error: &Error) -> bool {
    error.chain().any(|cause| {
        let plain = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error);
        let errno = cause
            .downcast_ref::<Errno>()
            .map(|errno| errno.raw_os_error());
        plain.or(errno) == Some(Errno::PERM.raw_os_error())
    })
}

fn chain(error: &Error) -> String {
    format!("{error:#}")
}

/// What a map is for, in few words, and the kernel that brought its type.
const fn about(map: MapName) -> (&'static str, KernelVersion) {
    match map {
        // Keyed by the cgroup's id alone since 5.9 (commit 7d9c3427894f upstream).
        MapName::Pods => ("the policy of a cgroup", since(5, 9)),
        MapName::RuleHits => ("hits of each rule", since(5, 9)),
        MapName::Locals => ("a pod's own addresses", since(4, 6)),
        MapName::Cidrs4 | MapName::Cidrs6 => ("ranges (-i, -x)", since(4, 11)),
        MapName::Ports => ("ports (-q, -o)", since(4, 6)),
        MapName::Groups => ("owner groups", since(4, 6)),
        MapName::OrigDst => ("original destination, per socket", since(5, 4)),
        MapName::Rehearsed => ("rehearsed connections", since(4, 10)),
        MapName::Differences => ("what a rehearsal found", since(4, 10)),
        MapName::StandIns | MapName::StandInCounts => {
            ("original destination, per address", since(4, 6))
        }
        MapName::Flows => ("original destination, in a handshake", since(4, 6)),
        MapName::DnsAsked => ("resolvers asked (--redirect-dns), per socket", since(5, 3)),
        MapName::Inbound => ("inbound redirection (-b)", since(4, 6)),
        MapName::InHits => ("hits of each inbound rule", since(4, 6)),
        // What listens can be kept since 5.7 (commit 8ca30379a401 upstream).
        MapName::Listeners => ("the proxy's listening sockets", since(5, 7)),
    }
}

/// What a hook is for, in few words.
const fn brief(hook: Hook) -> &'static str {
    match hook {
        Hook::SockOps => "hand over the original destination",
        Hook::GetSockOpt => "SO_ORIGINAL_DST",
        Hook::GetPeerName4 | Hook::GetPeerName6 => "the peer as under iptables",
        Hook::GetSockName4 | Hook::GetSockName6 => "the own address as under iptables",
        Hook::RecvMsg4 | Hook::RecvMsg6 => "answers from the resolver that was asked",
        Hook::SendMsg4 | Hook::SendMsg6 => "redirect unconnected queries (--redirect-dns)",
        Hook::Connect4 => "redirect IPv4",
        Hook::Connect6 => "redirect IPv6 and IPv4-mapped",
        Hook::SkLookup => "redirect inbound (-b)",
    }
}

/// Whether every required thing is present.
pub fn all_present<'a>(results: impl IntoIterator<Item = (&'a Probe, &'a Outcome)>) -> bool {
    results
        .into_iter()
        .all(|(probe, outcome)| !probe.required || matches!(outcome, Outcome::Present(_)))
}
