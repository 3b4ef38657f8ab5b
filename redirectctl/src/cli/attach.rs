//! `redirectctl attach`.

use anyhow::{Context as _, Result};
use clap::Args;
use redirect_user::{
    node::Writer,
    sys::{capability, netns::NetnsRef},
};

use super::{Context, options::PodOptions};

/// The arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
The options are those of istio-iptables, with its letters, names, defaults and
environment variables; without -i and -q nothing outbound is redirected. Most
pods need -u for the proxy's user, -i '*' for what leaves, -x for ranges that
do not, and -b '*' for what arrives. Options of istio-iptables that are not
listed are accepted without effect, with a warning, or refused by name.

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
        let mut wanted = self.options.read(context, None)?;
        capability::require(&capability::NEEDED)?;
        let found = self.options.look(&mut wanted, Some(NetnsRef::Own))?;
        let (name, netns) = found.context("find the pod's network namespace")?;
        Writer::open(&context.state_dir)?.attach(&wanted.cgroup, &netns, &wanted.config)?;
        context.attached(wanted, &name)
    }
}
