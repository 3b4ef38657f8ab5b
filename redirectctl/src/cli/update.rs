//! `redirectctl update`.

use anyhow::{Result, anyhow, bail};
use clap::Args;
use redirect_user::node::{NoNetns, Writer};

use super::{Context, options::PodOptions};

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
    options: PodOptions,
}

impl Update {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let options = &self.options;
        let mut wanted = options.read(context)?;
        let mut writer = Writer::open(&context.owner)?;
        let pod = options.cgroup.pod(&writer)?;
        let found = options.look(&mut wanted, None)?;
        if let Some((name, netns)) = &found
            && options.netns.netns.is_none()
            && netns.cookie != pod.row.netns
        {
            bail!(
                "update \"{}\": it was attached with another network namespace than that of {name}, which is in it: say which with --netns",
                wanted.cgroup.path().display()
            );
        }
        let netns = found.as_ref().map(|(_, netns)| netns);
        writer
            .update(&pod, netns, &wanted.config)
            .map_err(|error| match error.downcast::<NoNetns>() {
                Ok(error) => anyhow!("{error}: name it with --netns"),
                Err(error) => error,
            })?;
        let name = found.map_or_else(|| "as before".to_owned(), |(name, _)| name.to_string());
        context.applied("updated", wanted, name)
    }
}
