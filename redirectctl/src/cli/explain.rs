//! `redirectctl explain`.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail};
use clap::{Args, builder::RangedI64ValueParser};
use redirect_common::{
    abi::PolicyRow,
    facts::{Fact, Owner, Transport},
};
use redirect_iptables::rules::live_rule;
use redirect_user::{
    console,
    node::{Explanation, Question, explain, explain_inbound},
};
use serde::Serialize;

use super::{Context, target::CgroupArg};

/// An id that somebody can have.
fn id() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(..i64::from(PolicyRow::NO_ID))
}

/// The arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
The answer comes from the live maps and the decision that the kernel programs are built from.

Examples:
  redirectctl explain --cgroup /sys/fs/cgroup/my-pod --uid 1000 --dst 36.152.44.96:80
  redirectctl explain --cgroup /sys/fs/cgroup/my-pod --uid 1337 --dst '[fd00::1]:443' --src ::6
  redirectctl explain --cgroup /sys/fs/cgroup/my-pod --uid 1000 --dst 10.96.0.10:53 --udp
  redirectctl explain --cgroup /sys/fs/cgroup/my-pod --inbound --src 10.0.0.9 --dst 10.0.0.2:8080")]
pub(super) struct Explain {
    #[command(flatten)]
    cgroup: CgroupArg,
    /// Explain a connection that somebody makes to the pod, from --src to --dst
    #[arg(long, requires = "src", conflicts_with_all = ["uid", "gid", "udp"])]
    inbound: bool,
    /// User that made the socket
    #[arg(long, value_name = "UID", value_parser = id(), required_unless_present = "inbound")]
    uid: Option<u32>,
    /// Group that made the socket [default: the same number as --uid]
    #[arg(long, value_name = "GID", value_parser = id())]
    gid: Option<u32>,
    /// Where it is connected to
    #[arg(long, value_name = "ADDR:PORT")]
    dst: SocketAddr,
    /// It is a datagram, not a TCP connection
    #[arg(long)]
    udp: bool,
    /// Address the socket is bound to [default: not bound], or that an inbound connection is from
    #[arg(long, value_name = "ADDR")]
    src: Option<IpAddr>,
}

const TCP: (Transport, &str) = (Transport::Tcp, "tcp");
const UDP: (Transport, &str) = (Transport::Udp, "udp");

#[derive(Serialize)]
struct Explained {
    transport: &'static str,
    dst: SocketAddr,
    src: Option<IpAddr>,
    uid: Option<u32>,
    gid: Option<u32>,
    verdict: &'static str,
    rule: &'static str,
    iptables: String,
    target: SocketAddr,
    facts: Vec<&'static str>,
    earlier: Vec<Earlier>,
}

#[derive(Serialize)]
struct Earlier {
    rule: &'static str,
    missing: Vec<&'static str>,
    in_the_way: Vec<&'static str>,
}

impl Explain {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let Self {
            cgroup,
            inbound,
            uid,
            gid,
            dst,
            udp,
            src,
        } = self;
        let gid = gid.or(uid);
        let (transport, name) = if udp { UDP } else { TCP };
        let reader = context.reader()?;
        let pod = cgroup.pod(&reader)?;
        let Explanation {
            flow,
            facts,
            decision,
            target,
            earlier,
            can_be,
        } = match (src, uid, gid) {
            (Some(src), ..) if inbound => explain_inbound(&reader, &pod, src, dst),
            (_, Some(uid), Some(gid)) => {
                let question = Question {
                    transport,
                    owner: Owner { uid, gid },
                    dst,
                    source: src,
                };
                explain(&reader, &pod, &question)
            }
            _ => bail!("explain a connection: give --uid, or --inbound and --src"),
        }?;
        if !can_be {
            context.env.note(&not_the_pods(dst.ip()));
        }
        let texts = |facts: Vec<Fact>| facts.into_iter().map(Fact::text).collect();
        let explained = Explained {
            transport: name,
            dst,
            src,
            uid,
            gid,
            verdict: decision.verdict.name(),
            rule: decision.rule.name(),
            iptables: live_rule(&reader, &pod, decision.rule, &flow)?,
            target: target.unwrap_or(dst),
            facts: facts.iter().map(Fact::text).collect(),
            earlier: earlier
                .into_iter()
                .map(|step| Earlier {
                    rule: step.rule.name(),
                    missing: texts(step.missing),
                    in_the_way: texts(step.in_the_way),
                })
                .collect(),
        };
        context.print(&explained, || explained.text())
    }
}

/// What is said of an inbound connection to an address that the pod is not known to have.
fn not_the_pods(address: IpAddr) -> String {
    format!(
        "warning: {address} is not known as an address of the pod, at which nothing else arrives: `redirectctl update` reads them anew"
    )
}

impl Explained {
    fn text(&self) -> String {
        let facts = if self.facts.is_empty() {
            "none".to_owned()
        } else {
            self.facts.join("; ")
        };
        let head = [
            ("verdict", self.verdict.to_owned()),
            ("goes to", self.target.to_string()),
            ("rule", self.rule.to_owned()),
            ("stands for", self.iptables.clone()),
            ("facts", facts),
        ];
        let head = head.into_iter().fold(String::new(), |text, (name, value)| {
            format!("{text}{name:<12}{value}\n")
        });
        if self.earlier.is_empty() {
            return head;
        }
        let earlier = console::table(
            ["EARLIER RULE", "DID NOT MATCH"],
            self.earlier.iter().map(|step| {
                let missing = step.missing.iter().map(|fact| format!("not so: {fact}"));
                let in_the_way = step
                    .in_the_way
                    .iter()
                    .map(|fact| format!("it is so: {fact}"));
                [
                    step.rule.to_owned(),
                    missing.chain(in_the_way).collect::<Vec<_>>().join("; "),
                ]
            }),
        );
        format!("{head}\n{earlier}")
    }
}
