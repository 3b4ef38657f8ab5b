//! `redirectctl attach`.

use anyhow::{Context as _, Result};
use clap::Args;
use redirect_user::sys::{capability, netns::NetnsRef};

use super::{context::Context, options::PodOptions};

#[derive(Args, Debug)]
#[command(after_help = "\
The options are those of istio-iptables, with the same letters, names, defaults
and environment variables. Without -i and -q no outbound connection is
redirected. Most pods need -u for the proxy's user, -i '*' for outbound
connections, -x for excluded ranges, and -b '*' for inbound connections. Other
options of istio-iptables are accepted without effect, with a warning, or
refused by name.

Examples:
  CG=/sys/fs/cgroup/my-pod
  redirectctl attach --cgroup $CG -u 1337 -i '*'
  redirectctl attach --cgroup $CG -u 1337 -i '*' -x 10.0.0.0/8,192.168.0.0/16
  redirectctl attach --cgroup $CG -u 1337 -i '*' -b '*' -d 15090,15021,15020
  redirectctl attach --cgroup $CG -u 1337 -i '*' --redirect-dns
  redirectctl attach --cgroup $CG -u 1337 -i '*' --shadow
  redirectctl attach --cgroup $CG --netns /run/netns/my-pod -i 10.0.0.0/8")]
pub(super) struct Attach {
    #[command(flatten)]
    options: PodOptions,
}

impl Attach {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let mut pod = self.options.read(context, None)?;
        capability::require(&capability::NEEDED)?;
        let found = self.options.inspect_pod(&mut pod, Some(NetnsRef::Own))?;
        let (name, netns) = found.context("find the pod's network namespace")?;
        context
            .writer()?
            .allow_override(self.options.allow_override)
            .attach(&pod.cgroup, &netns, &pod.config)?;
        context.print_attached(pod, &name)
    }
}
