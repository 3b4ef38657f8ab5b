//! The owner of a connection: the credentials with which its socket was created, as `xt_owner` reads them. Every case
//! is compared with real iptables.

use anyhow::ensure;
use redirect_testkit::{Dial, Identity, SocketIdentity, ThreadIds, Worker, WorkerCgroup, cases};
use redirect_user::config::{Include, RedirectConfig};

use crate::{
    Cases, Needs, Tested,
    differential::{Backends, View},
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, Server, at},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        the_creator_of_a_socket_owns_it,
        a_user_namespace_does_not_change_the_owner,
    ],
};

const ROOT: ThreadIds = ThreadIds::of(0, 0);
const PROXY: ThreadIds = ThreadIds::of(1337, 1337);

/// The ways to create and connect a socket, each with the server that answers.
#[expect(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<(&'static str, SocketIdentity, Server)> {
    vec![
        ("root", SocketIdentity::of(ROOT), Server::Out),
        ("the proxy", SocketIdentity::of(PROXY), Server::World),
        (
            "seteuid",
            SocketIdentity::of(ThreadIds {
                effective_uid: 1337,
                ..ROOT
            }),
            Server::World,
        ),
        (
            "a set-user-id program run by the proxy",
            SocketIdentity::of(ThreadIds { uid: 1337, ..ROOT }),
            Server::Out,
        ),
        (
            "created by root, connected by the proxy",
            SocketIdentity::of(ROOT).connected_by(PROXY),
            Server::Out,
        ),
        (
            "created by the proxy's user, connected by root",
            SocketIdentity::of(ThreadIds::of(1337, 0)).connected_by(ROOT),
            Server::World,
        ),
        (
            "setgid",
            SocketIdentity::of(ThreadIds::of(0, 1337)),
            Server::World,
        ),
        (
            "setegid",
            SocketIdentity::of(ThreadIds {
                effective_gid: 1337,
                ..ROOT
            }),
            Server::World,
        ),
        (
            "a set-group-id program run by the proxy's group",
            SocketIdentity::of(ThreadIds { gid: 1337, ..ROOT }),
            Server::Out,
        ),
        (
            "setfsuid",
            SocketIdentity::of(ThreadIds {
                fsuid: Some(1337),
                ..ROOT
            }),
            Server::World,
        ),
        ("fchown", SocketIdentity::of(ROOT).chown(1337), Server::Out),
        (
            "the proxy's, after fchown",
            SocketIdentity::of(PROXY).chown(0),
            Server::World,
        ),
        (
            "created by root, connected with the proxy's group",
            SocketIdentity::of(ROOT).connected_by(ThreadIds::of(0, 1337)),
            Server::Out,
        ),
        (
            "created by the proxy, connected by the application",
            SocketIdentity::of(PROXY).connected_by(ThreadIds::of(1000, 1000)),
            Server::World,
        ),
    ]
}

fn settings() -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        ..RedirectConfig::default()
    }
}

fn the_creator_of_a_socket_owns_it() -> Tested {
    let backends = Backends::new("owner")?;
    backends.configure(&settings())?;
    let identities = [
        ("", Identity::root().cgroup(WorkerCgroup::App)),
        // `xt_owner` reads supplementary groups only with an option that Istio does not set.
        (
            ", in the proxy's group as a supplementary one",
            Identity::root().cgroup(WorkerCgroup::App).groups([1337]),
        ),
    ];
    for (suffix, worker) in identities {
        let theirs = backends.iptables.pod.worker(&worker)?;
        let ebpf = backends.ebpf.scene.pod.worker(&worker)?;
        for to in [at(ELSEWHERE_V4, 80), at(ELSEWHERE_V6, 80)] {
            for (case, identity, server) in cases() {
                let dial = Dial::to(to).socket_identity(identity);
                let (theirs, ebpf) = (theirs.dial(&dial)?, ebpf.dial(&dial)?);
                let (iptables, ebpf) = (View::of_iptables(&theirs), View::of(&ebpf));
                ensure!(
                    iptables == ebpf && ebpf.is_redirected() == server.is_redirect(),
                    "{case}{suffix}, to {to}: expected {server:?}\n  iptables: {iptables:?}\n  ebpf:     {ebpf:?}"
                );
            }
        }
    }
    Ok(())
}

/// A process whose ids are 0 inside its user namespace and 1337 outside is the proxy.
fn a_user_namespace_does_not_change_the_owner() -> Tested {
    let backends = Backends::new("userns")?;
    backends.configure(&settings())?;
    for (id, server) in [(1337, "world4:80"), (1000, "out4:15001")] {
        let identity = Identity::root().cgroup(WorkerCgroup::App).uid(id).gid(id);
        for pod in [&backends.iptables.pod, &backends.ebpf.scene.pod] {
            let answer = inside_user_namespace(&pod.worker(&identity)?)?;
            ensure!(
                answer.contains(server),
                "uid {id} in {}: {answer}",
                pod.name()
            );
        }
    }
    Ok(())
}

/// Connects as root of a new user namespace. Returns the answer.
fn inside_user_namespace(worker: &Worker) -> anyhow::Result<String> {
    let dial = format!("exec 3<>/dev/tcp/{ELSEWHERE_V4}/80 && head -n 1 <&3");
    let done = worker.run(&["unshare", "--user", "--map-root-user", "bash", "-c", &dial])?;
    ensure!(done.is_success(), "{done:?}");
    Ok(done.stdout)
}
