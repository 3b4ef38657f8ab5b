//! `redirectctl list`.

use anyhow::Result;
use clap::Args;
use redirect_user::node::Reader;

use super::{context::Context, target};

#[derive(Args, Debug)]
#[command(after_help = "\
OUT and IN count the connections that were sent to the proxy's outbound and
inbound port, DNS the queries that were sent to the mesh's resolver
(--redirect-dns), DIRECT the connections that were left alone. LOST connections
came to the proxy without their original destination. REFUSED ones failed
because there was no memory for it. In mode shadow the counters show decisions,
and nothing is redirected.

A cgroup shown as id:N was removed, or is outside of this cgroup namespace. The
option --cgroup accepts the same form.

Examples:
  redirectctl list
  redirectctl list --output json")]
pub(super) struct List {}

impl List {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let Self {} = self;
        let pods = match Reader::open(&context.state_dir)? {
            Some(reader) => reader.summaries()?,
            None => Vec::new(),
        };
        let (state_dir, elsewhere) = (context.state_dir.clone(), context.elsewhere());
        context.print(&pods, |screen| {
            if pods.is_empty() {
                let elsewhere = elsewhere.map_or_else(String::new, |text| format!(": {text}"));
                return format!(
                    "nothing is attached in \"{}\"{elsewhere}\n",
                    state_dir.display()
                );
            }
            screen.table_of_paths(
                [
                    "MODE", "RANGES", "OUT", "IN", "DNS", "DIRECT", "LOST", "REFUSED", "CGROUP",
                ],
                pods.iter().map(|pod| {
                    [
                        mode(pod.shadow).to_owned(),
                        pod.ranges.to_string(),
                        pod.redirected_out.to_string(),
                        pod.redirected_in.to_string(),
                        pod.redirected_dns.to_string(),
                        pod.direct.to_string(),
                        pod.lost.to_string(),
                        pod.refused.to_string(),
                        target::name(pod.cgroup.as_deref(), pod.cgroup_id),
                    ]
                }),
            )
        })
    }
}

const fn mode(shadow: bool) -> &'static str {
    if shadow { "shadow" } else { "redirect" }
}
