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
    console,
    node::{PodRehearsal, Reader, attached_by_others},
    sys::cgroup,
};
use serde::Serialize;

use super::Context;

/// The arguments.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  redirectctl status --output json")]
pub(super) struct Status {}

#[derive(Serialize)]
struct StatusReport {
    version: &'static str,
    layout: u32,
    bpffs: PathBuf,
    loaded: bool,
    current: bool,
    pods: usize,
    other_layout: usize,
    stand_ins: usize,
    stand_ins_max: usize,
    handshakes_under_way: usize,
    handshakes_lost: u64,
    programs: Vec<ProgramSize>,
    maps: Vec<MemoryUse>,
    rehearsals: Vec<PodRehearsal>,
}

#[derive(Serialize)]
struct ProgramSize {
    program: &'static str,
    instructions: u32,
    verified: u32,
    purpose: &'static str,
}

impl Status {
    pub(super) fn run(self, context: &mut Context<'_>) -> Result<()> {
        let Self {} = self;
        let mut report = StatusReport {
            version: env!("CARGO_PKG_VERSION"),
            layout: ABI_VERSION,
            bpffs: context.owner.clone(),
            loaded: false,
            current: true,
            pods: 0,
            other_layout: 0,
            stand_ins: 0,
            stand_ins_max: MAX_STAND_INS,
            handshakes_under_way: 0,
            handshakes_lost: 0,
            programs: Vec::new(),
            maps: Vec::new(),
            rehearsals: Vec::new(),
        };
        if let Some(reader) = Reader::open(&context.owner)? {
            report.fill(&reader)?;
        }
        report.other_layout = attached_by_others(&context.owner)?.len();
        context.print(&report, || report.text())
    }
}

impl StatusReport {
    fn fill(&mut self, reader: &Reader) -> Result<()> {
        self.loaded = true;
        self.current = reader.is_current()?;
        let pods = reader.pods()?;
        let paths = cgroup::find(&pods.iter().map(|pod| pod.id).collect::<Vec<_>>())?;
        for (pod, cgroup) in pods.iter().zip(paths) {
            self.pods = self.pods.saturating_add(1);
            let hits = reader.hits(pod)?;
            self.rehearsals
                .extend(reader.rehearsal(pod)?.map(|found| PodRehearsal {
                    cgroup,
                    cgroup_id: pod.id,
                    found,
                }));
            self.handshakes_lost = self
                .handshakes_lost
                .saturating_add(hits.flow_lost)
                .saturating_add(hits.record_failed);
        }
        self.stand_ins = reader.stand_ins()?;
        self.handshakes_under_way = reader.flows()?;
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

    fn text(&self) -> String {
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
        let programs = console::table(
            ["PROGRAM", "INSTRUCTIONS", "VERIFIED", "PURPOSE"],
            self.programs.iter().map(|program| {
                [
                    program.program.to_owned(),
                    program.instructions.to_string(),
                    program.verified.to_string(),
                    program.purpose.to_owned(),
                ]
            }),
        );
        let maps = console::table(
            ["MAP", "BYTES"],
            self.maps
                .iter()
                .map(|map| [map.map.to_owned(), map.bytes.to_string()]),
        );
        format!(
            "{head}{} attached, {} of {} stand-in addresses, {} handshakes under way, {} lost\n\n{}{programs}\n{maps}",
            self.pods,
            self.stand_ins,
            self.stand_ins_max,
            self.handshakes_under_way,
            self.handshakes_lost,
            self.rehearsed()
        )
    }

    /// What is to be known of other versions; nothing if there is nothing.
    fn versions(&self) -> String {
        let mut text = String::new();
        if !self.current {
            text += "the programs are another version's: `redirectctl upgrade` replaces them\n";
        }
        if self.other_layout > 0 {
            text += &self.other_layout.to_string();
            text += " cgroups are attached by a version with another layout: `redirectctl upgrade` names them\n";
        }
        text
    }

    /// The rehearsals, and what they found; nothing if there is none.
    fn rehearsed(&self) -> String {
        if self.rehearsals.is_empty() {
            return String::new();
        }
        let head = ["REHEARSAL", "AGREED", "DIFFERED", "UNKNOWN"];
        let pods = self.rehearsals.iter().map(|pod| {
            [
                console::path(pod.cgroup.as_deref()),
                pod.found.agreed.to_string(),
                pod.found.differed.to_string(),
                pod.found.unknown.to_string(),
            ]
        });
        let found = self.rehearsals.iter().flat_map(|pod| {
            let differences = pod.found.differences.iter().take(SHOWN);
            differences.map(|difference| {
                [
                    console::path(pod.cgroup.as_deref()),
                    difference.dst.to_string(),
                    difference.rule.to_owned(),
                    way(difference.decided),
                    way(difference.real),
                    difference.times.to_string(),
                ]
            })
        });
        let found: Vec<_> = found.collect();
        let mut text = console::table(head, pods) + "\n";
        if !found.is_empty() {
            let head = ["DIFFERENCE IN", "TO", "RULE", "DECIDED", "REALLY", "TIMES"];
            text = text + &console::table(head, found) + "\n";
        }
        text
    }
}

/// How many kinds of difference are shown of each pod; JSON has them all.
const SHOWN: usize = 8;

/// Where a connection went.
fn way(port: Option<u16>) -> String {
    port.map_or_else(|| "direct".to_owned(), |port| format!("port {port}"))
}
