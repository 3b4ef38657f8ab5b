//! `redirectctl status`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use redirect_common::{
    abi::{ABI_VERSION, MAX_STAND_INS},
    hooks::Hook,
};
use redirect_user::{
    bpf::{MemoryUse, program_report},
    console::Screen,
    node::{PodShadow, Reader, attached_by_others},
    sys::cgroup,
};
use serde::Serialize;

use super::{
    context::Context,
    health::{self, PodHealth},
    target,
};

#[derive(Args, Debug)]
#[command(after_help = "\
LOST and REFUSED are the sums of the columns of `list`. For a cgroup in mode
shadow, AGREED connections went where the decision sends them, and DIFFERED
ones went elsewhere. The real destination of UNKNOWN ones is not known.
Damaged cgroups lack a program: see `redirectctl list --help`.

Examples:
  redirectctl status
  redirectctl status --output json")]
pub(super) struct Status {}

#[derive(Serialize)]
struct StatusReport {
    version: &'static str,
    layout: u32,
    bpffs: PathBuf,
    loaded: bool,
    current: bool,
    cgroups: usize,
    damaged: usize,
    other_layout: usize,
    stand_ins: usize,
    stand_ins_max: usize,
    handshakes: usize,
    lost: u64,
    refused: u64,
    programs: Vec<ProgramSize>,
    maps: Vec<MemoryUse>,
    shadows: Vec<PodShadow>,
    health: Vec<PodHealth>,
}

#[derive(Serialize)]
struct ProgramSize {
    program: &'static str,
    instructions: u32,
    /// `None` before Linux 5.16, which does not tell.
    verified: Option<u32>,
    purpose: &'static str,
}

impl Status {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let Self {} = self;
        let empty = || StatusReport {
            version: env!("CARGO_PKG_VERSION"),
            layout: ABI_VERSION,
            bpffs: context.state_dir.clone(),
            loaded: false,
            current: true,
            cgroups: 0,
            damaged: 0,
            other_layout: 0,
            stand_ins: 0,
            stand_ins_max: MAX_STAND_INS,
            handshakes: 0,
            lost: 0,
            refused: 0,
            programs: Vec::new(),
            maps: Vec::new(),
            shadows: Vec::new(),
            health: Vec::new(),
        };
        let report = Reader::read(&context.state_dir, |reader| {
            let mut report = empty();
            report.fill(reader)?;
            Ok(report)
        })?;
        let mut report = report.unwrap_or_else(empty);
        report.other_layout = attached_by_others(&context.state_dir)?.len();
        context.print(&report, |screen| report.text(screen))
    }
}

impl StatusReport {
    fn fill(&mut self, reader: &Reader) -> Result<()> {
        self.loaded = true;
        self.current = reader.is_current()?;
        let pods = reader.pods()?;
        let paths = cgroup::find(&pods.iter().map(|pod| pod.id).collect::<Vec<_>>())?;
        for ((pod, cgroup), health) in pods.iter().zip(paths).zip(reader.health(&pods)?) {
            let is_damaged = !health.missing.is_empty();
            self.damaged = self.damaged.saturating_add(is_damaged.into());
            self.health.push(PodHealth {
                cgroup: cgroup.clone(),
                cgroup_id: pod.id,
                missing: health.missing,
                foreign: health.foreign,
            });
            self.cgroups = self.cgroups.saturating_add(1);
            let hits = reader.hits(pod)?;
            self.shadows
                .extend(reader.shadow(pod)?.map(|found| PodShadow {
                    cgroup,
                    cgroup_id: pod.id,
                    found,
                }));
            self.lost = self.lost.saturating_add(hits.flow_lost);
            self.refused = self.refused.saturating_add(hits.record_failed);
        }
        self.health.retain(|pod| !pod.is_good());
        self.stand_ins = reader.stand_ins()?;
        self.handshakes = reader.flows()?;
        for hook in Hook::ALL {
            let (instructions, verified) = program_report(reader.pins(), hook)?;
            self.programs.push(ProgramSize {
                program: hook.program(),
                instructions,
                verified,
                purpose: hook.purpose(),
            });
        }
        self.maps = reader.memory()?;
        Ok(())
    }

    fn text(&self, screen: Screen) -> String {
        let head = format!(
            "redirectctl {} (layout {}), state in \"{}\"\n",
            self.version,
            self.layout,
            self.bpffs.display()
        );
        let head = head + &self.versions();
        if !self.loaded {
            return format!("{head}nothing is loaded: nothing has been attached\n");
        }
        let counts = screen.fields([
            ("attached cgroups", self.cgroups.to_string()),
            ("damaged cgroups", self.damaged.to_string()),
            (
                "stand-in addresses",
                format!("{} of {}", self.stand_ins, self.stand_ins_max),
            ),
            ("handshakes under way", self.handshakes.to_string()),
            ("lost", self.lost.to_string()),
            ("refused", self.refused.to_string()),
        ]);
        let programs = screen.table(
            ["PROGRAM", "INSTRUCTIONS", "VERIFIED", "PURPOSE"],
            self.programs.iter().map(|program| {
                [
                    program.program.to_owned(),
                    program.instructions.to_string(),
                    program
                        .verified
                        .map_or_else(|| "–".to_owned(), |verified| verified.to_string()),
                    program.purpose.to_owned(),
                ]
            }),
        );
        let maps = screen.table(
            ["MAP", "BYTES"],
            self.maps
                .iter()
                .map(|map| [map.map.to_owned(), map.bytes.to_string()]),
        );
        let health = health::text(&self.health, screen);
        let shadow = self.shadow(screen);
        format!("{head}\n{counts}{health}\n{shadow}{programs}\n{maps}")
    }

    /// The lines about other versions; empty if there are none.
    fn versions(&self) -> String {
        let mut text = String::new();
        if !self.current {
            text += "the programs are of another version: `redirectctl upgrade` replaces them\n";
        }
        if self.other_layout > 0 {
            text += &self.other_layout.to_string();
            text += " cgroups were attached by a version with another layout: `redirectctl upgrade` names them\n";
        }
        text
    }

    /// The cgroups in shadow mode, with their findings; empty if there are none.
    fn shadow(&self, screen: Screen) -> String {
        if self.shadows.is_empty() {
            return String::new();
        }
        let name = |pod: &PodShadow| target::name(pod.cgroup.as_deref(), pod.cgroup_id);
        let pods = self.shadows.iter().map(|pod| {
            [
                pod.found.agreed.to_string(),
                pod.found.differed.to_string(),
                pod.found.unknown.to_string(),
                name(pod),
            ]
        });
        let found = self.shadows.iter().flat_map(|pod| {
            let differences = pod.found.differences.iter().take(SHOWN);
            differences.map(|difference| {
                [
                    difference.dst.to_string(),
                    difference.rule.to_owned(),
                    way(difference.decided),
                    way(difference.real),
                    difference.times.to_string(),
                    name(pod),
                ]
            })
        });
        let found: Vec<_> = found.collect();
        let head = ["AGREED", "DIFFERED", "UNKNOWN", "CGROUP IN SHADOW MODE"];
        let mut text = screen.table_of_paths(head, pods) + "\n";
        if !found.is_empty() {
            let head = [
                "DIFFERENCE AT",
                "RULE",
                "DECIDED",
                "REALLY",
                "TIMES",
                "CGROUP",
            ];
            text = text + &screen.table_of_paths(head, found) + "\n";
        }
        text
    }
}

/// The most kinds of difference that are shown for each pod. JSON has all.
const SHOWN: usize = 8;

/// The way of a connection.
fn way(port: Option<u16>) -> String {
    port.map_or_else(|| "direct".to_owned(), |port| format!("port {port}"))
}
