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
    console::{Env, Screen},
    node::{Explanation, Pod, Question, Reader, Step, explain, explain_inbound},
    sys::{cgroup, credentials},
};
use serde::Serialize;

use super::{context::Context, target::CgroupArg};

/// Parses an id that a user or group can have.
fn id() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(..i64::from(PolicyRow::NO_ID))
}

#[derive(Args, Debug)]
#[command(after_help = "\
The answer is computed from the live maps, by the same code that the kernel
programs are built from. For each earlier rule, the table lists the facts that
the rule needs and the connection lacks, and those that exclude the connection.

Examples:
  CG=/sys/fs/cgroup/my-pod
  redirectctl explain --cgroup $CG --uid 1000 --dst 36.152.44.96:80
  redirectctl explain --cgroup $CG --pid 4321 --dst 36.152.44.96:80
  redirectctl explain --cgroup $CG --uid 1337 --dst '[fd00::1]:443' --src ::6
  redirectctl explain --cgroup $CG --uid 1000 --dst 10.96.0.10:53 --udp
  redirectctl explain --cgroup $CG --inbound --src 10.0.0.9 \\
    --dst 10.0.0.2:8080")]
pub(super) struct Explain {
    #[command(flatten)]
    cgroup: CgroupArg,
    /// Explain a connection to the pod, from --src to --dst
    #[arg(long, requires = "src", conflicts_with_all = ["uid", "gid", "pid", "udp"])]
    inbound: bool,
    /// User that owns the socket
    #[arg(long, value_name = "UID", value_parser = id(), required_unless_present_any = ["inbound", "pid"])]
    uid: Option<u32>,
    /// Group that owns the socket [default: the same number as --uid]
    #[arg(long, value_name = "GID", value_parser = id())]
    gid: Option<u32>,
    /// Process that owns the socket, in place of its user and group
    #[arg(long, value_name = "PID", conflicts_with_all = ["uid", "gid"])]
    pid: Option<u32>,
    /// Destination of the connection
    #[arg(long, value_name = "ADDR:PORT", value_parser = destination)]
    dst: SocketAddr,
    /// Explain a datagram, not a TCP connection
    #[arg(long)]
    udp: bool,
    /// Address that the socket is bound to [default: unbound], or source of an inbound connection
    #[arg(long, value_name = "ADDR")]
    src: Option<IpAddr>,
}

/// Parses an address and a port. Names are not looked up: another resolver may have answered the application.
fn destination(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_not_one| {
        "write ADDRESS:PORT, such as 36.152.44.96:80 or [fd00::1]:443; names are not looked up"
    })
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
    shadow: bool,
    facts: Vec<&'static str>,
    earlier: Vec<Earlier>,
}

#[derive(Serialize)]
struct Earlier {
    rule: &'static str,
    needs: Vec<&'static str>,
    not_for: Vec<&'static str>,
}

impl Explain {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let Self {
            cgroup,
            inbound,
            uid,
            gid,
            pid,
            dst,
            udp,
            src,
        } = self;
        let (transport, name) = if udp { UDP } else { TCP };
        let reader = context.reader()?;
        let pod = cgroup.pod(&reader)?;
        let (uid, gid) = match pid {
            Some(pid) => ids_of_process(context.env, &reader, &pod, pid)?,
            None => (uid, gid.or(uid)),
        };
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
            _ => bail!("explain the connection: its user has no id in the pod: give --uid"),
        }?;
        if inbound && !pod.row.flags.inbound() {
            let warning = "all inbound connections are left alone: -b was not given at attach";
            context.env.warn(warning);
        }
        if !can_be {
            context.env.warn(&unknown_address(dst.ip()));
        }
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
            shadow: pod.row.flags.shadow(),
            facts: facts.iter().map(Fact::text).collect(),
            earlier: earlier.into_iter().map(Earlier::from).collect(),
        };
        context.print(&explained, |screen| explained.text(screen))
    }
}

/// A user and a group in the pod's user namespace; none if they have no id there.
type Ids = (Option<u32>, Option<u32>);

/// The user and group of a process. Warns if the process is not in the pod's cgroup.
fn ids_of_process(env: &mut Env, reader: &Reader, pod: &Pod, pid: u32) -> Result<Ids> {
    if !cgroup::is_below(pid, pod.id)? {
        env.warn(&outside(pid));
    }
    let ids = reader.ids(pod)?;
    let (uid, gid) = credentials::of_process(pid)?;
    Ok((ids.uids.inside(uid), ids.gids.inside(gid)))
}

impl From<Step> for Earlier {
    fn from(step: Step) -> Self {
        let texts = |facts: Vec<Fact>| facts.into_iter().map(Fact::text).collect();
        Self {
            rule: step.rule.name(),
            needs: texts(step.missing),
            not_for: texts(step.forbidden),
        }
    }
}

/// The warning about a process whose sockets the pod's programs do not see.
fn outside(pid: u32) -> String {
    format!(
        "process {pid} is not in this cgroup, so the sockets that it makes are not redirected by it: move the process there, or attach its own cgroup"
    )
}

/// The warning about an inbound connection to an address that is not known as one of the pod's.
fn unknown_address(address: IpAddr) -> String {
    format!(
        "{address} is not known as an address of the pod, and connections to other addresses do not arrive there: `redirectctl update --keep` reads the addresses anew"
    )
}

impl Explained {
    /// The target, and in shadow mode also that nothing is redirected.
    fn goes_to(&self) -> String {
        if self.shadow && self.target != self.dst {
            format!("{} (shadow mode: would go to {})", self.dst, self.target)
        } else {
            self.target.to_string()
        }
    }

    fn text(&self, screen: Screen) -> String {
        let facts = if self.facts.is_empty() {
            "none".to_owned()
        } else {
            self.facts.join("; ")
        };
        let head = screen.fields([
            ("verdict", self.verdict.to_owned()),
            ("goes to", self.goes_to()),
            ("rule", self.rule.to_owned()),
            ("stands for", self.iptables.clone()),
            ("facts", facts),
        ]);
        if self.earlier.is_empty() {
            return head;
        }
        let earlier = screen.table(
            ["EARLIER RULE", "DID NOT MATCH"],
            self.earlier.iter().map(|step| {
                let needs = step.needs.iter().map(|fact| format!("needs: {fact}"));
                let not_for = step.not_for.iter().map(|fact| format!("not for: {fact}"));
                [
                    step.rule.to_owned(),
                    needs.chain(not_for).collect::<Vec<_>>().join("; "),
                ]
            }),
        );
        format!("{head}\n{earlier}")
    }
}
