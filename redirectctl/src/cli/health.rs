//! The health of attached cgroups, as `list` and `status` print it.

use std::path::PathBuf;

use redirect_user::{
    console::Screen,
    node::{ForeignProgram, MissingProgram},
};
use serde::Serialize;

use super::target;

/// A cgroup that lacks programs, or for which programs of others run.
#[derive(Serialize)]
pub(super) struct PodHealth {
    pub(super) cgroup: Option<PathBuf>,
    pub(super) cgroup_id: u64,
    pub(super) missing: Vec<MissingProgram>,
    pub(super) foreign: Vec<ForeignProgram>,
}

impl PodHealth {
    /// Whether there is nothing to tell.
    pub(super) const fn is_good(&self) -> bool {
        self.missing.is_empty() && self.foreign.is_empty()
    }

    fn name(&self) -> String {
        target::name(self.cgroup.as_deref(), self.cgroup_id)
    }
}

/// The tables of missing programs and of programs of others, each after an empty line; empty if there are none.
pub(super) fn text(pods: &[PodHealth], screen: Screen) -> String {
    let missing: Vec<_> = pods
        .iter()
        .flat_map(|pod| {
            let missing = pod.missing.iter();
            missing.map(|program| {
                [
                    program.hook.program().to_owned(),
                    program.reason.to_string(),
                    pod.name(),
                ]
            })
        })
        .collect();
    let foreign: Vec<_> = pods
        .iter()
        .flat_map(|pod| {
            let foreign = pod.foreign.iter();
            foreign.map(|program| {
                [
                    program.hook.program().to_owned(),
                    program.program.clone(),
                    program.id.to_string(),
                    pod.name(),
                ]
            })
        })
        .collect();
    let mut text = String::new();
    if !missing.is_empty() {
        text.push('\n');
        text += &screen.table_of_paths(["MISSING PROGRAM", "REASON", "CGROUP"], missing);
        text += "`redirectctl update --keep --cgroup CGROUP` attaches the missing programs\n";
    }
    if !foreign.is_empty() {
        text.push('\n');
        text += &screen.table_of_paths(["HOOK", "PROGRAM OF OTHERS", "ID", "CGROUP"], foreign);
    }
    text
}
