//! `redirectctl cidr`: the ranges of an attached pod.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;
use redirect_user::{
    config::{parse_cidr_arguments, parse_cidr_file},
    policy::{RangeChange, RangeEdit, RangeList, ranges},
};

use super::{context::Context, input, target::CgroupArg};

#[derive(Args, Debug)]
#[command(after_help = "\
A change takes effect at once and without a restart. Every new connection meets
the whole old list or the whole new one. Open connections do not change.

Examples:
  CG=/sys/fs/cgroup/my-pod
  redirectctl cidr add --cgroup $CG 36.152.44.0/24 2001:db8::/32
  echo 10.0.0.0/8 > ranges.txt
  redirectctl cidr replace --cgroup $CG --file ranges.txt
  redirectctl cidr list --cgroup $CG --list include")]
pub(super) struct Cidr {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add ranges; ranges that are in the list already stay
    #[command(after_help = "\
Example:
  CG=/sys/fs/cgroup/my-pod
  redirectctl cidr add --cgroup $CG 36.152.44.0/24 2001:db8::/32")]
    Add(Change),
    /// Remove ranges; all of them must be in the list
    #[command(after_help = "\
Example:
  redirectctl cidr del --cgroup /sys/fs/cgroup/my-pod 36.152.44.0/24")]
    Del(Change),
    /// Print the ranges, one a line
    #[command(after_help = "\
Example:
  redirectctl cidr list --cgroup /sys/fs/cgroup/my-pod --list include")]
    List(Which),
    /// Replace all ranges of the list by these
    #[command(after_help = "\
Examples:
  CG=/sys/fs/cgroup/my-pod
  echo 10.0.0.0/8 > ranges.txt
  redirectctl cidr replace --cgroup $CG --file ranges.txt
  redirectctl cidr list --cgroup /sys/fs/cgroup/other-pod |
    redirectctl cidr replace --cgroup $CG --file -")]
    Replace(Change),
}

#[derive(Args, Debug)]
struct Which {
    #[command(flatten)]
    cgroup: CgroupArg,
    /// List of ranges
    #[arg(long, value_name = "LIST", default_value = "exclude")]
    list: ListArg,
}

#[derive(Args, Debug)]
struct Change {
    #[command(flatten)]
    which: Which,
    /// File with one range a line; `#` starts a comment; - for standard input
    #[arg(long, short, value_name = "FILE", conflicts_with = "ranges")]
    file: Option<PathBuf>,
    /// Print every added and every removed range
    #[arg(long, short)]
    verbose: bool,
    /// Ranges, as ADDRESS/LENGTH
    #[arg(value_name = "CIDR", required_unless_present = "file")]
    ranges: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ListArg {
    /// Ranges of -x: never redirected
    Exclude,
    /// Ranges of -i: redirected
    Include,
}

impl From<ListArg> for RangeList {
    fn from(list: ListArg) -> Self {
        match list {
            ListArg::Exclude => Self::Exclude,
            ListArg::Include => Self::Include,
        }
    }
}

impl Cidr {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        match self.action {
            Action::Add(change) => change.run(context, RangeEdit::Add),
            Action::Del(change) => change.run(context, RangeEdit::Remove),
            Action::Replace(change) => change.run(context, RangeEdit::Replace),
            Action::List(which) => which.run(context),
        }
    }
}

impl Which {
    fn run(self, context: &mut Context<'_>) -> Result<()> {
        let config = context.read(|reader| reader.config(&self.cgroup.pod(reader)?))?;
        let texts = match ranges(&config, self.list.into()) {
            Some(nets) => nets.iter().map(IpNet::to_string).collect(),
            None => vec!["*".to_owned()],
        };
        context.print(&texts, |_| {
            texts
                .iter()
                .fold(String::new(), |text, net| text + net + "\n")
        })
    }
}

impl Change {
    fn run(self, context: &mut Context<'_>, how: RangeEdit) -> Result<()> {
        let given = self.ranges()?;
        if how == RangeEdit::Replace && given.is_empty() {
            // An empty input is more often the output of a failed command than a wish.
            bail!(
                "replace the ranges: none are given: to empty the list, remove its ranges with `redirectctl cidr del`"
            );
        }
        let mut writer = context.writer()?;
        let pod = self.which.cgroup.pod(&writer)?;
        let change = writer.edit_ranges(&pod, self.which.list.into(), how, &given)?;
        // Before the output: a slow reader of the pipe must not keep the lock.
        drop(writer);
        context.print(&change, |_| text(&change, self.verbose))
    }

    fn ranges(&self) -> Result<Vec<IpNet>> {
        let Some(file) = &self.file else {
            return parse_cidr_arguments(&self.ranges).context("read the ranges given");
        };
        parse_cidr_file(&input::read(file)?).with_context(|| format!("read {}", input::name(file)))
    }
}

fn text(change: &RangeChange, verbose: bool) -> String {
    let (added, removed) = (change.added.len(), change.removed.len());
    let ranges = if change.total == 1 { "range" } else { "ranges" };
    let sum = format!(
        "{added} added, {removed} removed: {} {ranges}\n",
        change.total
    );
    if !verbose {
        return sum;
    }
    let removed = change.removed.iter().map(|net| format!("- {net}\n"));
    let added = change.added.iter().map(|net| format!("+ {net}\n"));
    removed.chain(added).chain([sum]).collect()
}
