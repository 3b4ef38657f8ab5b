//! The story: the two outbound policies, two ways out of the black hole, the connections that never meet the proxy, a
//! killed loader, and the end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use redirect_common::chain::RuleId;
use redirect_testkit::{OutboundPolicy, Pod};

use crate::{
    connection::Connection,
    report::Report,
    scene::{OTHER, SERVICE, SERVICE6, Scene},
    sidecar::{Kind, Sidecar},
};

/// A step of the story.
enum Step {
    Heading(&'static str),
    Note(&'static str),
    /// Starts the proxy, in place of the running one.
    Proxy(OutboundPolicy),
    /// Runs redirectctl.
    Run(&'static str),
    /// Starts a redirectctl that attaches the pod and does not end.
    Start(&'static str),
    /// Kills the redirectctl that does not end.
    Kill,
    Connect(&'static [Connection]),
}

/// A connection of the application that is redirected, and that the proxy passes on.
const fn redirected(server: &'static str, address: IpAddr, port: u16) -> Connection {
    Connection {
        by_proxy_user: false,
        to: SocketAddr::new(address, port),
        mapped: false,
        server: Some(server),
        rule: Some(RuleId::AnyIncluded),
    }
}

const WEB: Connection = redirected("web", SERVICE, 80);
const MAPPED: Connection = Connection {
    mapped: true,
    ..WEB
};
const WEB6: Connection = redirected("web6", SERVICE6, 80);
const DATABASE: Connection = redirected("database", SERVICE, 5432);
const OTHER_HOST: Connection = redirected("other", OTHER, 80);
const BY_PROXY_USER: Connection = Connection {
    by_proxy_user: true,
    ..OTHER_HOST
};
const TO_LOOPBACK: Connection = redirected("app", IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const TO_POD: Connection = redirected("app", IpAddr::V4(Pod::V4), 8080);

const fn registry_only(registered: SocketAddr) -> OutboundPolicy {
    OutboundPolicy::RegistryOnly { registered }
}

const STORY: &[Step] = &[
    Step::Heading("ALLOW_ANY: unknown hosts are reached through the proxy"),
    Step::Proxy(OutboundPolicy::AllowAny),
    Step::Note("with the arguments that Istio's init container gives to istio-iptables:"),
    Step::Run(
        "attach --cgroup $POD -p 15001 -z 15006 -u 1337 -m REDIRECT -i '*' -x '' -b '*' -d 15090,15021,15020 --dual-stack",
    ),
    Step::Connect(&[WEB, WEB6, MAPPED]),
    Step::Heading("REGISTRY_ONLY: unknown hosts end in a black hole, closed with nothing sent"),
    Step::Proxy(registry_only(OTHER_HOST.to)),
    Step::Connect(&[WEB.closed()]),
    // The annotation excludeOutboundIPRanges, but on a pod that runs.
    Step::Heading(
        "Way 1, by rules: exclude its range, and the connection never meets the proxy; no restart",
    ),
    Step::Run("cidr add --cgroup $POD 36.152.44.0/24"),
    Step::Connect(&[WEB.decided_by(Some(RuleId::CidrExcluded))]),
    Step::Run("cidr del --cgroup $POD 36.152.44.0/24"),
    Step::Connect(&[WEB.closed()]),
    Step::Heading("Way 2, by ServiceEntry: register it, and the proxy passes it on"),
    Step::Proxy(registry_only(WEB.to)),
    Step::Connect(&[WEB, OTHER_HOST.closed()]),
    Step::Heading("Never through the proxy: connections of its own user, and to the pod itself"),
    Step::Connect(&[
        BY_PROXY_USER.decided_by(Some(RuleId::Uid)),
        TO_LOOPBACK.decided_by(Some(RuleId::AppLoUid)),
        TO_POD.decided_by(Some(RuleId::AppLoUid)),
    ]),
    Step::Heading("Nor does a connection to an excluded port meet the proxy"),
    Step::Run("update --cgroup $POD -u 1337 -i '*' --dual-stack -o 5432"),
    Step::Connect(&[DATABASE.decided_by(Some(RuleId::PortExcluded))]),
    // Programs and maps are pinned: no process has to live for them.
    Step::Heading("The loader is killed, and redirection goes on"),
    Step::Run("detach --cgroup $POD"),
    Step::Start("attach --cgroup $POD -u 1337 -i '*' --dual-stack"),
    Step::Note("the process has attached the pod; a full pipe keeps it from ending"),
    Step::Connect(&[WEB]),
    Step::Kill,
    Step::Connect(&[WEB]),
    Step::Heading("Detached: everything is direct again"),
    Step::Run("detach --cgroup $POD"),
    Step::Connect(&[
        WEB.decided_by(None),
        WEB6.decided_by(None),
        OTHER_HOST.decided_by(None),
    ]),
    Step::Heading("The end"),
    Step::Run("uninstall --yes"),
];

/// Tells the story, removes everything, and checks that it is gone.
pub(crate) fn tell(report: &mut Report, kind: Kind) -> Result<()> {
    let mut scene = Scene::new()?;
    introduce(report, &scene)?;
    let mut loader = None;
    for step in STORY {
        let redirectctl = &scene.redirectctl;
        match *step {
            Step::Heading(text) => report.line(&format!("\n{text}"))?,
            Step::Note(text) => report.note(text)?,
            Step::Proxy(policy) => {
                // The running proxy ends first: both listen at port 15001.
                drop(scene.sidecar.take());
                let program = &redirectctl.path;
                let sidecar = Sidecar::start(report, kind, &scene.pod, program, policy)?;
                scene.sidecar = Some(sidecar);
            }
            Step::Run(line) => redirectctl.run(report, line)?,
            Step::Start(line) => loader = Some(redirectctl.start_blocked(report, line)?),
            Step::Kill => {
                let loader = loader.take().context("kill the loader: none runs")?;
                report.command(&format!("kill -9 {}", loader.pid))?;
                let is_killed = redirectctl.kill(loader)?;
                report.check(is_killed, "the process that attached the pod is killed")?;
            }
            Step::Connect(connections) => {
                let cells = connections.iter().map(|to| to.measure(&scene));
                report.connections(&cells.collect::<Result<Vec<_>>>()?)?;
            }
        }
    }
    let (pod, namespace) = (&scene.pod, scene.pod.namespace());
    let paths = [
        pod.cgroup().path().to_owned(),
        namespace.with_file_name(pod.world().namespace()),
        namespace,
        scene.redirectctl.state_dir.clone(),
    ];
    drop(scene);
    let left = paths.iter().filter(|path| path.exists());
    let left: Vec<_> = left.map(|path| path.display().to_string()).collect();
    let text = "nothing is left behind: no cgroup, no network namespace, no pin";
    report.check(
        left.is_empty(),
        &[&[text.to_owned()], &*left].concat().join("; but "),
    )
}

fn introduce(report: &mut Report, scene: &Scene) -> Result<()> {
    let (pod, cgroup) = (&scene.pod, scene.pod.cgroup().path().display());
    let (name, world, v4, v6) = (pod.name(), pod.world().namespace(), Pod::V4, Pod::V6);
    let (pid, state_dir) = (scene.app.pid(), scene.redirectctl.state_dir.display());
    report.line(&format!(
        "
A pod, and a host outside the mesh: 36.152.44.96
    cgroup   {cgroup} (POD below), with app and istio-proxy
    network  namespace {name}: {v4} and {v6}, linked to {world}
    app      uid 1000, process {pid}: it is never restarted below
    proxy    uid 1337, port 15001
    A row is a connection: the rule that `redirectctl explain` names, and COUNTED, the change of
    that rule's counter. The proxy's own connections are counted too, by the rule uid.
  $ POD={cgroup}
  $ alias redirectctl='redirectctl --bpffs {state_dir}'"
    ))
}
