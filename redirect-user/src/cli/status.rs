//! `redirectctl status`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use redirect_common::{abi::ABI_VERSION, hooks::Hook};
use serde::Serialize;

use super::{Context, output};
use crate::{
    bpf::{MemoryUse, program_report},
    node::Reader,
};

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
    pods: usize,
    handshakes_under_way: usize,
    handshakes_lost: u64,
    programs: Vec<ProgramSize>,
    maps: Vec<MemoryUse>,
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
            pods: 0,
            handshakes_under_way: 0,
            handshakes_lost: 0,
            programs: Vec::new(),
            maps: Vec::new(),
        };
        if let Some(reader) = Reader::open(&context.owner)? {
            report.fill(&reader)?;
        }
        context.print(&report, || report.text())
    }
}

impl StatusReport {
    fn fill(&mut self, reader: &Reader) -> Result<()> {
        self.loaded = true;
        for pod in reader.pods()? {
            self.pods = self.pods.saturating_add(1);
            let hits = reader.hits(&pod)?;
            self.handshakes_lost = self
                .handshakes_lost
                .saturating_add(hits.flow_lost)
                .saturating_add(hits.record_failed);
        }
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
        if !self.loaded {
            return format!("{head}nothing is loaded: nothing has been attached\n");
        }
        let programs = output::table(
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
        let maps = output::table(
            ["MAP", "BYTES"],
            self.maps
                .iter()
                .map(|map| [map.map.to_owned(), map.bytes.to_string()]),
        );
        format!(
            "{head}{} attached, {} handshakes under way, {} lost\n\n{programs}\n{maps}",
            self.pods, self.handshakes_under_way, self.handshakes_lost
        )
    }
}
