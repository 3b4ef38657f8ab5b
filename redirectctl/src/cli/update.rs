//! `redirectctl update`.

use anyhow::{Result, anyhow, bail};
use clap::Args;
use redirect_user::{config::changes, node::AttachError};

use super::{context::Context, options::PodOptions};

#[derive(Args, Debug)]
#[command(after_help = "\
The command replaces all options: an option that is not given gets its default,
and the ranges that `cidr` has changed are replaced, too. With --keep, an
option that is not given keeps its value. In both cases the options that
changed are printed, and the pod's local addresses are read anew.

Examples:
  CG=/sys/fs/cgroup/my-pod
  redirectctl update --cgroup $CG -u 1337 -i '*' -x 10.0.0.0/8
  redirectctl update --cgroup $CG --keep -x 10.0.0.0/8
  redirectctl update --cgroup $CG --keep --shadow=false
  redirectctl update --cgroup $CG --keep")]
pub(super) struct Update {
    /// Change only the options that are given
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    options: PodOptions,
}

impl Update {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let Self { keep, options } = self;
        // First, because a wrong option is no reason to take the lock.
        let mut new = options.read(context, None)?;
        let mut writer = context.writer()?.allow_override(options.allow_override);
        let pod = options.cgroup.pod(&writer)?;
        let before = writer.config(&pod)?;
        if keep {
            new = options.read(context, Some(&before))?;
        }
        let found = options.inspect_pod(&mut new, None)?;
        if let Some((name, netns)) = &found
            && options.netns.netns.is_none()
            && netns.cookie != pod.row.netns
        {
            bail!(
                "update \"{}\": it was attached with another network namespace than the one of its processes ({name}): choose one with --netns",
                new.cgroup.path().display()
            );
        }
        let netns = found.as_ref().map(|(_, netns)| netns);
        writer
            .update(&pod, netns, &new.config)
            .map_err(|error| match error {
                AttachError::NoNetns(_) => anyhow!("{error}: name it with --netns"),
                AttachError::AlreadyAttached(_)
                | AttachError::NoSuchId(_)
                | AttachError::Conflict(_)
                | AttachError::Other(_) => error.into(),
            })?;
        let changed = changes(&before, &writer.config(&options.cgroup.pod(&writer)?)?);
        drop(writer);
        context.print_updated(new, found.as_ref().map(|(name, _)| name), changed)
    }
}
