//! The probes of the object's maps and programs.

use redirect_common::{
    abi::MapName,
    hooks::{FLOOR, Hook, KernelVersion},
};

use super::{
    cause::{chain, is_denied, read},
    probe::Availability,
};
use crate::{bpf::object::Attempt, sys::capability};

pub(super) const fn since(major: u16, minor: u16) -> KernelVersion {
    KernelVersion { major, minor }
}

pub(super) fn availability(attempt: &Attempt) -> Availability {
    let error = match attempt {
        Attempt::Accepted => return Availability::Present(String::new()),
        Attempt::NotTried(why) => return Availability::Unknown((*why).to_owned()),
        Attempt::Refused(error) => error,
    };
    match capability::missing() {
        Ok(missing) if missing.is_empty() && is_denied(error) => {
            Availability::Unknown(not_permitted())
        }
        Ok(missing) if missing.is_empty() => Availability::missing(chain(error), refused()),
        // Whatever the error is, the missing capability may be its cause: the verifier rejects
        // helpers that are not permitted as unknown.
        Ok(missing) => {
            let names: Vec<_> = missing.into_iter().map(|(name, _)| name).collect();
            Availability::Unknown(format!(
                "refused, perhaps only for lack of {}",
                names.join(", ")
            ))
        }
        Err(error) => Availability::Unknown(chain(&error)),
    }
}

/// The reason why the kernel may return EPERM to a process that has every capability.
fn not_permitted() -> String {
    if capability::in_first_user_namespace() {
        "not permitted by a seccomp filter, a security module or kernel lockdown".to_owned()
    } else {
        "not permitted in a user namespace: BPF needs capabilities of the initial one, so run it there".to_owned()
    }
}

fn refused() -> String {
    let lockdown = read("/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.contains("[confidentiality]") {
        return "kernel lockdown is \"confidentiality\", which forbids reading kernel memory: boot with \"integrity\" or none".to_owned();
    }
    format!("use Linux {FLOOR} or newer, built with CONFIG_CGROUP_BPF=y")
}

/// The purpose of a map in a few words, and the kernel that introduced its type.
pub(super) const fn map_purpose(map: MapName) -> (&'static str, KernelVersion) {
    match map {
        // Keyed by the cgroup's id alone since 5.9 (commit 7d9c3427894f upstream).
        MapName::Pods => ("the policy of a cgroup", since(5, 9)),
        MapName::RuleHits => ("hits of each rule", since(5, 9)),
        MapName::Locals => ("a pod's local addresses", since(4, 6)),
        // Maps of any size in one array since 5.10 (commit 134fede4eecf upstream).
        MapName::Cidrs4 | MapName::Cidrs6 => ("ranges (-i, -x)", since(5, 10)),
        MapName::Ports => ("ports (-q, -o)", since(5, 10)),
        MapName::Groups => ("owner groups", since(5, 10)),
        MapName::OrigDst => ("original destination, per socket", since(5, 4)),
        MapName::ShadowFlows => ("connections in shadow mode", since(4, 10)),
        MapName::ShadowDiffs => ("differences in shadow mode", since(4, 10)),
        MapName::StandIns | MapName::StandInCounts => {
            ("original destination, per address", since(4, 6))
        }
        MapName::Flows => ("original destination, in a handshake", since(4, 6)),
        MapName::DnsPending => ("resolvers asked (--redirect-dns), per socket", since(5, 3)),
        MapName::Inbound => ("inbound redirection (-b)", since(4, 6)),
        MapName::InHits => ("hits of each inbound rule", since(4, 6)),
        // Listening sockets can be stored since 5.7 (commit 8ca30379a401 upstream).
        MapName::Listeners => ("the proxy's listening sockets", since(5, 7)),
    }
}

/// The purpose of a hook in a few words.
pub(super) const fn hook_purpose(hook: Hook) -> &'static str {
    match hook {
        Hook::SockOps => "pass on the original destination",
        Hook::GetSockOpt => "SO_ORIGINAL_DST",
        Hook::GetPeerName4 | Hook::GetPeerName6 => "the peer as under iptables",
        Hook::GetSockName4 | Hook::GetSockName6 => "the local address as under iptables",
        Hook::RecvMsg4 | Hook::RecvMsg6 => "answers from the resolver that was asked",
        Hook::SendMsg4 | Hook::SendMsg6 => "redirect unconnected queries (--redirect-dns)",
        Hook::Connect4 => "redirect IPv4",
        Hook::Connect6 => "redirect IPv6 and IPv4-mapped",
        Hook::SkLookup => "redirect inbound (-b)",
    }
}
