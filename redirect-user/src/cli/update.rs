//! `redirectctl update`.

use anyhow::{Result, bail};
use clap::Args;

use super::{
    Context,
    attach::{Applied, cautions},
    target::{CgroupArg, NetnsArg, ShadowArg},
};
use crate::{
    config::{Flags, Resolved},
    node::{Writer, find_resolvers},
    sys::netns::Netns,
};

/// The arguments.
#[derive(Args, Debug)]
#[command(after_help = "\
All options are replaced, not only those given; what is not given takes its default. Ranges alone
are changed with `redirectctl cidr`. The pod's own addresses are read anew. Without --shadow a
rehearsal becomes the real thing.

Example:
  redirectctl update --cgroup /sys/fs/cgroup/my-pod -u 1337 -i '*' -x 10.0.0.0/8")]
pub(super) struct Update {
    #[command(flatten)]
    cgroup: CgroupArg,
    #[command(flatten)]
    netns: NetnsArg,
    #[command(flatten)]
    shadow: ShadowArg,
    #[command(flatten)]
    flags: Flags,
}

impl Update {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let cgroup = self.cgroup.open()?;
        let mut resolved = context.resolve(&self.flags)?;
        self.shadow.apply(&mut resolved);
        let Resolved {
            mut config,
            mut warnings,
        } = resolved;
        let mut writer = Writer::open(&context.owner)?;
        let pod = self.cgroup.pod(&writer)?;
        warnings.extend(find_resolvers(&mut config, self.netns.asker(&cgroup))?);
        let netns = match self.netns.find(&cgroup) {
            Some(name) => Some((name.to_string(), Netns::read(&name)?)),
            None => None,
        };
        if let Some((name, netns)) = &netns {
            if self.netns.netns.is_none() && netns.cookie != pod.row.netns {
                bail!(
                    "update \"{}\": it was attached with another network namespace than that of {name}, which is in it: say which with --netns",
                    cgroup.path().display()
                );
            }
            warnings.extend(cautions(&config, netns));
            warnings.extend(self.netns.doubt(&cgroup));
        }
        writer.update(&pod, netns.as_ref().map(|(_, netns)| netns), &config)?;
        let applied = Applied {
            cgroup: cgroup.path().to_owned(),
            cgroup_id: cgroup.id(),
            netns: netns.map_or_else(|| "as before".to_owned(), |(name, _)| name),
            config,
            warnings,
        };
        context.applied("updated", &applied)
    }
}
