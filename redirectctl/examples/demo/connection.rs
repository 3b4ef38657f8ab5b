//! One connection: making it, and its cells, expected and seen.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context as _, Result};
use redirect_common::chain::{RuleId, Verdict};
use redirect_testkit::{APP_ID, Answer, Banner, Dial, DialOutcome, DialReport, PROXY_ID};
use serde_json::Value;

use crate::{redirectctl::Redirectctl, report::Cells, scene::Scene, sidecar::Sidecar};

/// A connection to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    /// Dialled by a process of the proxy's user, else by the application.
    pub(crate) by_proxy_user: bool,
    pub(crate) to: SocketAddr,
    /// Dialled from an IPv6 socket, as `::ffff:a.b.c.d`.
    pub(crate) mapped: bool,
    /// The name of the server that answers; none if the proxy closes the connection.
    pub(crate) server: Option<&'static str>,
    /// The rule that decides; none if the pod is not attached.
    pub(crate) rule: Option<RuleId>,
}

impl Connection {
    pub(crate) const fn closed(self) -> Self {
        let server = None;
        Self { server, ..self }
    }

    pub(crate) const fn decided_by(self, rule: Option<RuleId>) -> Self {
        Self { rule, ..self }
    }

    /// Makes the connection. COUNTED is the change of the rule's counter, and of every other counter that moved.
    pub(crate) fn measure(self, scene: &Scene) -> Result<Cells> {
        let Self { to, rule, .. } = self;
        let sidecar = scene.sidecar.as_ref();
        let sidecar = sidecar.context("make a connection: no proxy runs")?;
        let redirectctl = &scene.redirectctl;
        let (uid, worker) = if self.by_proxy_user {
            (PROXY_ID.to_string(), &scene.proxy_user)
        } else {
            (APP_ID.to_string(), &scene.app)
        };
        let dialled = if self.mapped {
            format!("[::ffff:{}]:{}", to.ip(), to.port())
        } else {
            to.to_string()
        };
        // Explaining fails if the pod is not attached.
        let explain = format!("explain --cgroup $POD --uid {uid} --dst {dialled}");
        let explained = redirectctl.json(&explain).unwrap_or_default();
        let told = |field| explained.get(field).and_then(Value::as_str).unwrap_or("-");
        let notes = sidecar.notes()?;
        let before = counters(redirectctl);
        let report = worker.dial(&self.dial())?;
        let counted = counted(told("rule"), &before, &counters(redirectctl));
        let (saw, opened) = sidecar.notes_since(&notes, !self.is_direct())?;
        let [answer, note, count] = self.expected(sidecar, opened);
        let name = rule.map_or("-", RuleId::name);
        let verdict = rule.map_or("-", |rule| rule.verdict().name());
        let iptables = rule.map_or("-".to_owned(), iptables);
        let peer = report.peername.map(|peer| peer.to_string());
        let cell = |head, expected: &str, seen: &str| (head, expected.to_owned(), seen.to_owned());
        Ok([
            cell("IPTABLES", &iptables, told("iptables")),
            cell("UID", &uid, &uid),
            cell("DIALLED", &dialled, &dialled),
            cell("VERDICT", verdict, told("verdict")),
            cell("RULE", name, told("rule")),
            cell("ANSWERED BY", &answer, &seen_answer(&report, to)),
            cell("PROXY SAW", &note, &saw),
            cell("GETPEERNAME", &to.to_string(), &peer.unwrap_or_default()),
            cell("COUNTED", &count, &counted),
        ])
    }

    fn is_direct(self) -> bool {
        self.rule
            .is_none_or(|rule| rule.verdict() == Verdict::Direct)
    }

    /// An HTTP request that is longer than any answer: the kit reads back as many bytes as it has sent, or to the end.
    fn dial(self) -> Dial {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nX-Padding: {:-<4096}\r\n\r\n",
            self.to, ""
        );
        let dial = Dial::to(self.to).echo(request);
        if self.mapped { dial.mapped() } else { dial }
    }

    /// The expected answer, the proxy's note, and the counters. The proxy's own connection leaves by the rule of its
    /// user, uid; Envoy may use one again that it has open.
    fn expected(self, sidecar: &Sidecar, opened: u64) -> [String; 3] {
        let Self { to, server, .. } = self;
        let count = if self.rule.is_some() { "+1" } else { "-" };
        let is_reused = opened == 0 && matches!(sidecar, Sidecar::Envoy(_));
        let by_proxy = if is_reused { "" } else { ", uid +1" };
        match server.map(|server| (server, self.is_direct())) {
            None => ["closed".into(), sidecar.black_holed(to), count.into()],
            Some((server, true)) => [format!("{server}, direct"), "-".into(), count.into()],
            Some((server, false)) => {
                let answer = format!("{server}, via proxy");
                [answer, to.to_string(), format!("{count}{by_proxy}")]
            }
        }
    }
}

/// The iptables rule with the story's values.
fn iptables(rule: RuleId) -> String {
    let words = rule.iptables().split(' ').map(|word| match word {
        "C" => "36.152.44.0/24",
        "P" => "5432",
        "U" => "1337",
        word => word,
    });
    let words: Vec<_> = ["-A", rule.chain()].into_iter().chain(words).collect();
    words.join(" ")
}

/// The server's name, and whether it saw the connection that was dialled or one of the proxy's.
fn seen_answer(report: &DialReport, to: SocketAddr) -> String {
    let body = String::from_utf8_lossy(report.echoed.as_deref().unwrap_or_default());
    let mut banners = body
        .lines()
        .filter_map(|line| serde_json::from_str::<Banner>(line).ok());
    match (&report.outcome, banners.next()) {
        (_, Some(banner)) if banner.local != Some(to) => format!("{banner:?}"),
        (_, Some(banner)) if banner.peer == report.sockname => format!("{}, direct", banner.server),
        (_, Some(banner)) => format!("{}, via proxy", banner.server),
        (DialOutcome::Connected(Answer::Closed | Answer::Reset), None) => "closed".to_owned(),
        (outcome, None) => format!("{outcome:?}"),
    }
}

type Counters = BTreeMap<String, i64>;

/// The hits of every outbound rule; none if the pod is not attached. A call that loops back is counted a second time,
/// by an inbound rule.
fn counters(redirectctl: &Redirectctl) -> Counters {
    let shown = redirectctl.json("show --cgroup $POD").unwrap_or_default();
    let rules = shown.get("rules").and_then(Value::as_array);
    let hits = |rule: &Value| {
        let name = rule
            .get("rule")?
            .as_str()
            .filter(|name| !name.starts_with("in-"));
        Some((name?.to_owned(), rule.get("hits")?.as_i64()?))
    };
    rules.into_iter().flatten().filter_map(hits).collect()
}

fn counted(rule: &str, before: &Counters, after: &Counters) -> String {
    if after.is_empty() {
        return "-".to_owned();
    }
    let hits = |counters: &Counters, name: &str| counters.get(name).copied().unwrap_or_default();
    let change = |name: &str| hits(after, name) - hits(before, name);
    let others = after
        .keys()
        .filter(|name| *name != rule && change(name) != 0);
    let others = others.map(|name| format!(", {name} {:+}", change(name)));
    format!("{:+}{}", change(rule), others.collect::<String>())
}
