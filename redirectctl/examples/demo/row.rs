//! One connection: what it should be, making it, and measuring what it was.

use std::net::{SocketAddr, SocketAddrV6};

use anyhow::{Context as _, Result};
use redirect_testkit::{APP_ID, Answer, Banner, Dial, DialOutcome, DialReport, PROXY_ID, Worker};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    cells::Cells,
    command::POD,
    mesh::Mesh,
    screen::Screen,
    sidecar::{Noted, Sidecar},
};

/// What a cell shows where there is nothing.
const NOTHING: &str = "-";

/// How an answer is shown that somebody passed on.
const VIA_PROXY: &str = "via proxy";

/// Who dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    App,
    Proxy,
}

/// What should become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It reaches its destination, untouched.
    Direct,
    /// The proxy takes it and passes it on.
    ThroughProxy,
    /// The proxy takes it and closes it.
    BlackHole,
}

/// A rule by its name, and the iptables rule it stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) iptables: &'static str,
}

/// A connection to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) who: Who,
    pub(crate) to: SocketAddr,
    /// From an IPv6 socket, as `::ffff:a.b.c.d`.
    pub(crate) mapped: bool,
    /// The server that listens there.
    pub(crate) server: &'static str,
    pub(crate) way: Way,
    /// None if nothing is attached.
    pub(crate) rule: Option<Rule>,
}

#[derive(Deserialize)]
struct Explained {
    verdict: String,
    rule: String,
    iptables: String,
}

#[derive(Deserialize)]
struct Shown {
    rules: Vec<Counter>,
}

#[derive(Deserialize)]
struct Counter {
    rule: String,
    hits: u64,
    verdict: String,
}

impl Row {
    /// Makes the connection and prints the row.
    pub(crate) fn run(self, screen: &mut Screen, mesh: &Mesh) -> Result<()> {
        let (uid, worker) = match self.who {
            Who::App => (APP_ID, &mesh.app),
            Who::Proxy => (PROXY_ID, &mesh.proxy),
        };
        let sidecar = mesh.sidecar().context("a row without a proxy")?;
        let explained = self.explain(mesh, uid)?;
        let notes = sidecar.notes()?;
        let before = counters(mesh)?;
        let dialled = self.dial(worker)?;
        let after = counters(mesh)?;
        let noted = sidecar.noted(&notes, self.way != Way::Direct)?;

        let mut seen = Cells {
            answered: answered(&dialled, self.to),
            peername: dialled
                .peername
                .map_or_else(|| NOTHING.to_owned(), |peer| peer.to_string()),
            ..Cells::default()
        };
        seen.fill_explained(explained);
        seen.fill_counted(&before, &after, noted.opened);
        let expected = self.expected(sidecar, &noted);
        seen.saw = noted.saw;
        screen.row(uid, &self.dialled().to_string(), &expected, &seen)
    }

    /// The destination as it is given to `connect`.
    fn dialled(self) -> SocketAddr {
        let Self { to, mapped, .. } = self;
        match to {
            SocketAddr::V4(to) if mapped => {
                SocketAddrV6::new(to.ip().to_ipv6_mapped(), to.port(), 0, 0).into()
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => to,
        }
    }

    fn explain(self, mesh: &Mesh, uid: u32) -> Result<Option<Explained>> {
        if !is_attached(mesh)? {
            return Ok(None);
        }
        let (uid, to) = (uid.to_string(), self.dialled().to_string());
        let arguments = ["explain", "--cgroup", POD, "--uid", &uid, "--dst", &to];
        let arguments = [&arguments[..], &["--output", "json"]].concat();
        mesh.redirectctl.json(&arguments).map(Some)
    }

    /// One HTTP request. It is longer than any answer, because the kit's dial reads back as many
    /// bytes as it has sent, or up to the end.
    fn dial(self, worker: &Worker) -> Result<DialReport> {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nX-Padding: {:-<4096}\r\n\r\n",
            self.to, ""
        );
        let mut dial = Dial::to(self.to).echo(request);
        if self.mapped {
            dial = dial.mapped();
        }
        worker.dial(&dial)
    }

    fn expected(self, sidecar: &Sidecar, noted: &Noted) -> Cells {
        let Self { to, server, .. } = self;
        let (verdict, answered, saw) = match self.way {
            Way::Direct => ("direct", format!("{server}, direct"), NOTHING.to_owned()),
            Way::ThroughProxy => ("out", format!("{server}, {VIA_PROXY}"), to.to_string()),
            Way::BlackHole => ("out", "nobody: closed".to_owned(), sidecar.black_holed(to)),
        };
        let opened = match (self.way, sidecar) {
            (Way::ThroughProxy, Sidecar::Builtin { .. }) => 1,
            // It may use a connection again that it has already.
            (Way::ThroughProxy, Sidecar::Envoy(_)) => noted.opened,
            (Way::Direct | Way::BlackHole, _) => 0,
        };
        let mut cells = Cells {
            answered,
            saw,
            peername: to.to_string(),
            ..Cells::default()
        };
        cells.fill_explained(self.rule.map(|rule| Explained {
            verdict: verdict.to_owned(),
            rule: rule.name.to_owned(),
            iptables: rule.iptables.to_owned(),
        }));
        cells.fill_rule(self.rule.map(|rule| (verdict, rule.name)), opened);
        cells
    }
}

impl Cells {
    fn fill_explained(&mut self, explained: Option<Explained>) {
        (self.explained, self.iptables) = match explained {
            Some(Explained {
                verdict,
                rule,
                iptables,
            }) => (format!("{verdict} {rule}"), iptables),
            None => (NOTHING.to_owned(), "(nothing is attached)".to_owned()),
        };
    }

    /// The counters that moved, without the connections the proxy made meanwhile: it walks the same
    /// chain, and leaves it by the rule of its user.
    fn fill_counted(&mut self, before: &[Counter], after: &[Counter], opened: u64) {
        // A call that loops back is counted where it arrives as well.
        let outbound = after.iter().filter(|now| !now.rule.starts_with("in-"));
        let moved = outbound.filter_map(|now| {
            let then = before.iter().find(|then| then.rule == now.rule);
            let own = if now.rule == "uid" { opened } else { 0 };
            let hits = i128::from(now.hits)
                - then.map_or(0, |then| i128::from(then.hits))
                - i128::from(own);
            (hits != 0).then_some((now, hits))
        });
        match moved.collect::<Vec<_>>().as_slice() {
            [] => self.fill_rule(None, opened),
            [(counter, 1)] => self.fill_rule(Some((&counter.verdict, &counter.rule)), opened),
            several => {
                let texts = several
                    .iter()
                    .map(|(counter, hits)| format!("{} {hits:+}", counter.rule));
                self.counted = texts.collect::<Vec<_>>().join(", ");
            }
        }
    }

    fn fill_rule(&mut self, rule: Option<(&str, &str)>, opened: u64) {
        let (verdict, name) = rule.unwrap_or((NOTHING, NOTHING));
        verdict.clone_into(&mut self.verdict);
        name.clone_into(&mut self.rule);
        let own = rule.map(|(_, name)| format!("{name} +1"));
        // Envoy may pass on by a connection to that host which it has already.
        let proxy = if opened > 0 {
            Some(format!("uid +{opened} (the proxy)"))
        } else {
            let is_passed_on = self.answered.ends_with(VIA_PROXY);
            is_passed_on.then(|| "uid +0 (reused)".to_owned())
        };
        let counted: Vec<_> = own.into_iter().chain(proxy).collect();
        self.counted = if counted.is_empty() {
            NOTHING.to_owned()
        } else {
            counted.join(", ")
        };
    }
}

/// Who answered, by its own word; and whether the connection it saw is the one that was made.
fn answered(dialled: &DialReport, to: SocketAddr) -> String {
    let what = match &dialled.outcome {
        DialOutcome::Connected(Answer::Closed | Answer::Reset) => "closed",
        DialOutcome::Connected(Answer::Silent | Answer::NotAwaited) => "silence",
        DialOutcome::Connected(Answer::Banner(_)) => "no HTTP",
        DialOutcome::Connected(Answer::Other(status)) => {
            let echoed = dialled.echoed.as_deref().unwrap_or_default();
            match banner(&String::from_utf8_lossy(echoed)) {
                Some(banner) => return server(&banner, dialled, to),
                None => status.trim(),
            }
        }
        DialOutcome::Refused => "refused",
        DialOutcome::Failed { name, .. } => name,
    };
    format!("nobody: {what}")
}

fn server(banner: &Banner, dialled: &DialReport, to: SocketAddr) -> String {
    let way = if banner.peer == dialled.sockname {
        "direct"
    } else {
        VIA_PROXY
    };
    let place = banner.local.filter(|local| *local != to);
    let place = place.map_or_else(String::new, |place| format!(" at {place}"));
    format!("{}{place}, {way}", banner.server)
}

/// The body's one line, however the answer is framed.
fn banner(answer: &str) -> Option<Banner> {
    answer
        .lines()
        .find_map(|line| serde_json::from_str(line).ok())
}

/// The hits of every rule; none if nothing is attached.
fn counters(mesh: &Mesh) -> Result<Vec<Counter>> {
    if !is_attached(mesh)? {
        return Ok(Vec::new());
    }
    let shown: Shown = mesh
        .redirectctl
        .json(&["show", "--cgroup", POD, "--output", "json"])?;
    Ok(shown.rules)
}

/// The demo's own state holds one pod or none.
fn is_attached(mesh: &Mesh) -> Result<bool> {
    let pods: Vec<IgnoredAny> = mesh.redirectctl.json(&["list", "--output", "json"])?;
    Ok(!pods.is_empty())
}
