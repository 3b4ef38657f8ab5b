//! `redirectctl list`.

use anyhow::Result;
use clap::Args;
use redirect_user::node::Reader;

use super::{
    context::Context,
    health::{self, PodHealth},
    target,
};

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

A cgroup is damaged if a program is missing: the second table names the program
and the reason, and `redirectctl update --keep` attaches it again. The third
table names programs of others that run for the cgroup at the same hooks.

Examples:
  redirectctl list
  redirectctl list --output json")]
pub(super) struct List {}

impl List {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let Self {} = self;
        let pods = Reader::read(&context.state_dir, Reader::summaries)?.unwrap_or_default();
        let (state_dir, elsewhere) = (context.state_dir.clone(), context.elsewhere());
        context.print(&pods, |screen| {
            if pods.is_empty() {
                let elsewhere = elsewhere.map_or_else(String::new, |text| format!(": {text}"));
                return format!(
                    "nothing is attached in \"{}\"{elsewhere}\n",
                    state_dir.display()
                );
            }
            let table = screen.table_of_paths(
                [
                    "STATE", "MODE", "RANGES", "OUT", "IN", "DNS", "DIRECT", "LOST", "REFUSED",
                    "CGROUP",
                ],
                pods.iter().map(|pod| {
                    [
                        pod.state.to_owned(),
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
            );
            let report = pods.iter().map(|pod| PodHealth {
                cgroup: pod.cgroup.clone(),
                cgroup_id: pod.cgroup_id,
                missing: pod.missing.clone(),
                foreign: pod.foreign.clone(),
            });
            table + &health::text(&report.collect::<Vec<_>>(), screen)
        })
    }
}

const fn mode(shadow: bool) -> &'static str {
    if shadow { "shadow" } else { "redirect" }
}
