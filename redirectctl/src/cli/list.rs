//! `redirectctl list`.

use anyhow::Result;
use clap::Args;
use redirect_user::{console, node::Reader};

use super::Context;

/// The arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
OUT and IN count connections sent to the proxy's outbound and inbound port, DIRECT those left alone,
LOST those that came without their original destination or found no memory for it. Cgroups with the
same POLICY share their entries. DNS counts queries sent to the mesh's resolver (--redirect-dns). Of a
cgroup in rehearsal (--shadow), these are the decisions; nothing is redirected.

Example:
  redirectctl list --output json")]
pub(super) struct List {}

impl List {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let Self {} = self;
        let pods = match Reader::open(&context.owner)? {
            Some(reader) => reader.summaries()?,
            None => Vec::new(),
        };
        context.print(&pods, || {
            if pods.is_empty() {
                return "nothing is attached\n".to_owned();
            }
            console::table(
                [
                    "CGROUP", "MODE", "POLICY", "RANGES", "OUT", "IN", "DNS", "DIRECT", "LOST",
                ],
                pods.iter().map(|pod| {
                    [
                        console::path(pod.cgroup.as_deref()),
                        mode(pod.shadow).to_owned(),
                        pod.policy.to_string(),
                        pod.ranges.to_string(),
                        pod.redirected_out.to_string(),
                        pod.redirected_in.to_string(),
                        pod.redirected_dns.to_string(),
                        pod.direct.to_string(),
                        pod.flow_lost.saturating_add(pod.record_failed).to_string(),
                    ]
                }),
            )
        })
    }
}

const fn mode(shadow: bool) -> &'static str {
    if shadow { "rehearsal" } else { "redirect" }
}
