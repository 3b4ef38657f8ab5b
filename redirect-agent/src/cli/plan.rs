//! The subcommand `plan`.

use std::{collections::BTreeMap, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use redirect_user::{
    console::{Env, Screen},
    sys::cgroup,
};
use serde::Serialize;

use super::{exit_status::INCOMPLETE, output::OutputArg, source::SourceArg};
use crate::{
    desired::Desired,
    plan::{Action, Step},
    reconcile::Reconciler,
    source::{OpenedSource, Source, SourceEvent},
};

/// Arguments of `plan`.
#[derive(Args, Debug)]
#[command(after_help = "\
Actions: detach, move (to another network namespace), update, repair (attach missing programs),
take-over (from a version with another layout of the maps) and attach change an attachment; the others
leave it as it is. keep: attached as described. wait: the cgroup, or a process in it, does not exist
yet. refuse: the description or the cgroup cannot be used. hold: not described, but a description
cannot be read.

Examples:
  redirect-agent plan
  redirect-agent plan --folder ./workloads --output json
  redirect-agent plan --source kube --mesh /etc/redirect-agent/mesh.yaml")]
pub(super) struct Plan {
    #[command(flatten)]
    source: SourceArg,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Serialize)]
struct Row {
    workload: Option<String>,
    action: Action,
    cgroup: Option<String>,
    reason: Option<String>,
}

impl Plan {
    pub(super) fn run(self, state_dir: &Path, env: &mut Env) -> Result<ExitCode> {
        let node = self.source.node(env);
        let (source, snapshot) = snapshot(self.source.open(node))?;
        let mut desired = Desired::new(source);
        desired.apply(snapshot);
        let planned = Reconciler::new(state_dir, Duration::ZERO).plan(&desired)?;
        let rows = rows(planned.steps)?;
        env.print(self.output.output, &rows, |screen| text(screen, &rows))?;
        let is_refused = rows.iter().any(|row| row.action == Action::Refuse);
        Ok(if is_refused {
            ExitCode::from(INCOMPLETE)
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// The source's name, and its first event.
fn snapshot<S: Source>(
    opened: impl Future<Output = Result<OpenedSource<S>>>,
) -> Result<(&'static str, SourceEvent)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    runtime.block_on(async {
        let OpenedSource { mut source, .. } = opened.await?;
        match source.next().await {
            SourceEvent::Unavailable(reason) => bail!(reason),
            event @ (SourceEvent::Snapshot(_)
            | SourceEvent::Changed(_)
            | SourceEvent::Removed(_)) => Ok((source.name(), event)),
        }
    })
}

fn rows(steps: Vec<Step>) -> Result<Vec<Row>> {
    let ids: Vec<_> = steps.iter().filter_map(|step| step.cgroup).collect();
    let paths: BTreeMap<_, _> = ids.iter().copied().zip(cgroup::find(&ids)?).collect();
    let row = |step: Step| {
        let path = step.cgroup.and_then(|id| paths.get(&id)?.clone());
        Row {
            workload: step.id.map(|id| id.to_string()),
            action: step.action,
            cgroup: path.map(|path| path.display().to_string()),
            reason: step.reason,
        }
    };
    Ok(steps.into_iter().map(row).collect())
}

fn text(screen: Screen, rows: &[Row]) -> String {
    if rows.is_empty() {
        return "nothing is described, and nothing is attached\n".to_owned();
    }
    let cell = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    screen.table(
        ["WORKLOAD", "ACTION", "CGROUP", "REASON"],
        rows.iter().map(|row| {
            [
                cell(&row.workload),
                row.action.name().to_owned(),
                cell(&row.cgroup),
                cell(&row.reason),
            ]
        }),
    )
}
