//! What happens, in order: the two outbound modes, the two ways out, what never meets the proxy,
//! a killed loader, and the end.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use redirect_testkit::{APP_ID, OutboundPolicy, PROXY_ID, Pod};

use crate::{
    command::POD,
    mesh::{HOST, HOST6, LOOPBACK, Mesh, OTHER, OWN},
    row::{Row, Rule, Way, Who},
    screen::Screen,
    sidecar::Kind,
};

/// The arguments that Istio's init container gives to istio-iptables, in a mesh with IPv6.
const ISTIO: [&str; 17] = [
    "-p",
    "15001",
    "-z",
    "15006",
    "-u",
    "1337",
    "-m",
    "REDIRECT",
    "-i",
    "*",
    "-x",
    "",
    "-b",
    "*",
    "-d",
    "15090,15021,15020",
    "--dual-stack",
];
/// Those of them that are not defaults.
const SHORT: [&str; 5] = ["-u", "1337", "-i", "*", "--dual-stack"];
/// The excluded range of the story.
const RANGE: &str = "36.152.44.0/24";

const REDIRECTED: Rule = Rule {
    name: "any-included",
    iptables: "-A ISTIO_OUTPUT -j ISTIO_REDIRECT",
};
const EXCLUDED_RANGE: Rule = Rule {
    name: "cidr-excluded",
    iptables: "-A ISTIO_OUTPUT -d 36.152.44.0/24 -j RETURN",
};
const EXCLUDED_PORT: Rule = Rule {
    name: "port-excluded",
    iptables: "-A ISTIO_OUTPUT -p tcp --dport 5432 -j RETURN",
};
const PROXY_USER: Rule = Rule {
    name: "uid",
    iptables: "-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN",
};
const LOCAL: Rule = Rule {
    name: "app-lo-uid",
    iptables: "-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN",
};

/// Tells the story, and removes everything.
pub(crate) fn tell(screen: &mut Screen, kind: Kind) -> Result<()> {
    let mut story = Story {
        mesh: Mesh::new(kind)?,
        screen,
    };
    story.introduction()?;
    story.allow_any()?;
    story.registry_only()?;
    story.by_rules()?;
    story.by_registration()?;
    story.never_the_proxy()?;
    story.loader_killed()?;
    story.detached()?;
    let Story { mesh, screen } = story;
    the_end(screen, mesh)
}

struct Story<'a> {
    screen: &'a mut Screen,
    mesh: Mesh,
}

/// The app's connection to the host of the story, by what should become of it.
const fn to_host(way: Way, rule: Option<Rule>) -> Row {
    Row {
        who: Who::App,
        to: SocketAddr::new(HOST, 80),
        mapped: false,
        server: "web",
        way,
        rule,
    }
}

const fn direct(server: &'static str, to: (IpAddr, u16), rule: Rule) -> Row {
    Row {
        server,
        to: SocketAddr::new(to.0, to.1),
        ..to_host(Way::Direct, Some(rule))
    }
}

impl Story<'_> {
    fn introduction(&mut self) -> Result<()> {
        let Self { screen, mesh } = self;
        let pod = mesh.pod();
        screen.heading("A pod, and a host outside the mesh: 36.152.44.96")?;
        screen.note(format_args!(
            "cgroup   {} (POD below), with app and istio-proxy",
            pod.cgroup().path().display()
        ))?;
        screen.note(format_args!(
            "network  namespace {}: {} and {}, linked to {}",
            pod.name(),
            OWN,
            Pod::V6,
            pod.world().namespace()
        ))?;
        screen.note(format_args!(
            "app      uid {APP_ID}, process {}: it is never restarted below",
            mesh.app.pid()
        ))?;
        screen.note(format_args!("proxy    uid {PROXY_ID}, port 15001"))?;
        screen.note("A row is a connection; below it, the iptables rule it would meet, and the counters it moved.")?;
        screen.command(format_args!("POD={}", pod.cgroup().path().display()))?;
        let bpffs = mesh.redirectctl.bpffs().display();
        screen.command(format_args!(
            "alias redirectctl='redirectctl --bpffs {bpffs}'"
        ))
    }

    /// Istio's default: Envoy's `PassthroughCluster`.
    fn allow_any(&mut self) -> Result<()> {
        self.screen
            .heading("ALLOW_ANY: unknown hosts are reached through the proxy")?;
        self.mesh
            .start_proxy(self.screen, &OutboundPolicy::AllowAny)?;
        self.screen
            .note("with the arguments that Istio's init container gives to istio-iptables:")?;
        self.control(&[&["attach", "--cgroup", POD], &ISTIO[..]].concat())?;
        let row = to_host(Way::ThroughProxy, Some(REDIRECTED));
        let ipv6 = Row {
            to: SocketAddr::new(HOST6, 80),
            server: "web6",
            ..row
        };
        self.rows(&[
            row,
            ipv6,
            Row {
                mapped: true,
                ..row
            },
        ])
    }

    /// Envoy's `BlackHoleCluster`.
    fn registry_only(&mut self) -> Result<()> {
        self.screen.heading(
            "REGISTRY_ONLY: unknown hosts end in a black hole, closed with nothing sent",
        )?;
        self.register(OTHER)?;
        self.rows(&[to_host(Way::BlackHole, Some(REDIRECTED))])
    }

    /// The annotation excludeOutboundIPRanges, but on a pod that runs.
    fn by_rules(&mut self) -> Result<()> {
        self.screen
            .heading("Way 1, by rules: exclude its range, and the connection never meets the proxy; no restart")?;
        self.control(&["cidr", "add", "--cgroup", POD, RANGE])?;
        self.rows(&[to_host(Way::Direct, Some(EXCLUDED_RANGE))])?;
        self.control(&["cidr", "del", "--cgroup", POD, RANGE])?;
        self.rows(&[to_host(Way::BlackHole, Some(REDIRECTED))])
    }

    /// Istio's `ServiceEntry`.
    fn by_registration(&mut self) -> Result<()> {
        self.screen
            .heading("Way 2, by ServiceEntry: register it, and the proxy passes it on")?;
        self.register(HOST)?;
        let other = Row {
            to: SocketAddr::new(OTHER, 80),
            server: "other",
            ..to_host(Way::BlackHole, Some(REDIRECTED))
        };
        self.rows(&[to_host(Way::ThroughProxy, Some(REDIRECTED)), other])
    }

    fn never_the_proxy(&mut self) -> Result<()> {
        self.screen
            .heading("What never meets the proxy: its own user, the pod itself")?;
        let own_user = Row {
            who: Who::Proxy,
            ..direct("other", (OTHER, 80), PROXY_USER)
        };
        self.rows(&[
            own_user,
            direct("app", (LOOPBACK, 8080), LOCAL),
            direct("app", (OWN, 8080), LOCAL),
        ])?;
        self.screen
            .heading("Nor does a connection to an excluded port")?;
        let options = [&["update", "--cgroup", POD], &SHORT[..], &["-o", "5432"]].concat();
        self.control(&options)?;
        self.rows(&[direct("database", (HOST, 5432), EXCLUDED_PORT)])
    }

    /// Programs and maps are pinned; no process has to live for them.
    fn loader_killed(&mut self) -> Result<()> {
        self.screen
            .heading("The loader is killed, and redirection goes on")?;
        self.control(&["detach", "--cgroup", POD])?;
        let Self { screen, mesh } = self;
        let attach = [&["attach", "--cgroup", POD], &SHORT[..]].concat();
        let loader = mesh.redirectctl.stuck(screen, &attach)?;
        screen.note(format_args!(
            "process {}: it has attached the pod, and is kept from ending by a full pipe",
            loader.pid()
        ))?;
        self.rows(&[to_host(Way::ThroughProxy, Some(REDIRECTED))])?;
        self.screen
            .command(format_args!("kill -9 {}", loader.pid()))?;
        let died = loader.kill()?;
        self.screen
            .check(died, "the process that attached the pod ended by signal 9")?;
        self.rows(&[to_host(Way::ThroughProxy, Some(REDIRECTED))])
    }

    fn detached(&mut self) -> Result<()> {
        self.screen
            .heading("Detached: everything is direct again")?;
        self.control(&["detach", "--cgroup", POD])?;
        let row = to_host(Way::Direct, None);
        let ipv6 = Row {
            to: SocketAddr::new(HOST6, 80),
            server: "web6",
            ..row
        };
        let other = Row {
            to: SocketAddr::new(OTHER, 80),
            server: "other",
            ..row
        };
        self.rows(&[row, ipv6, other])
    }

    /// Starts the proxy anew with one registered host.
    fn register(&mut self, host: IpAddr) -> Result<()> {
        let registered = SocketAddr::new(host, 80);
        self.mesh
            .start_proxy(self.screen, &OutboundPolicy::RegistryOnly { registered })
    }

    fn control(&mut self, arguments: &[&str]) -> Result<()> {
        self.mesh.redirectctl.run(self.screen, arguments)
    }

    fn rows(&mut self, rows: &[Row]) -> Result<()> {
        rows.iter()
            .try_for_each(|row| row.run(self.screen, &self.mesh))
    }
}

/// Removes everything and looks whether it is gone.
fn the_end(screen: &mut Screen, mesh: Mesh) -> Result<()> {
    screen.heading("The end")?;
    mesh.redirectctl.run(screen, &["uninstall", "--yes"])?;
    let traces = [
        mesh.pod().cgroup().path().to_owned(),
        mesh.pod().namespace(),
        mesh.pod()
            .namespace()
            .with_file_name(mesh.pod().world().namespace()),
        mesh.redirectctl.bpffs().to_owned(),
    ];
    drop(mesh);
    let left: Vec<_> = traces
        .iter()
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    let text = "nothing is left behind: no cgroup, no network namespace, no pin";
    if left.is_empty() {
        screen.check(true, text)
    } else {
        screen.check(false, &format!("{text}; but {}", left.join(", ")))
    }
}
