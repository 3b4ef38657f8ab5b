//! The size limits of the programs: `redirect-ebpf/budget.txt`, a file whose changes are reviewed.

use std::{collections::BTreeMap, env, fmt::Write as _, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use redirect_common::hooks::Hook;
use redirect_testkit::cases;
use redirect_user::bpf::{linked_program_report, program_report, verified_instructions};

use crate::{Cases, Needs, Tested, harness::Redirected, inbound::every_port};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [every_program_keeps_within_its_budget],
};

const BUDGET: &str = include_str!("../../../redirect-ebpf/budget.txt");

/// The size of a program.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// Instructions of the program in the kernel, before the JIT compiles them.
    instructions: u32,
    /// Instructions that the verifier walked, over all paths.
    verified: u32,
}

impl Size {
    /// Whether the size is at most a quarter and a fifth above the budget's: other compilers count differently.
    const fn is_within(self, budget: Self) -> bool {
        self.instructions as u64 * 4 <= budget.instructions as u64 * 5
            && self.verified as u64 * 5 <= budget.verified as u64 * 6
    }
}

fn parse(text: &str) -> Result<BTreeMap<&str, Size>> {
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            let mut number = || -> Result<u32> {
                words
                    .next()
                    .and_then(|word| word.parse().ok())
                    .with_context(|| {
                        format!("budget.txt: \"{line}\" is not a name and two numbers")
                    })
            };
            Ok((
                name,
                Size {
                    instructions: number()?,
                    verified: number()?,
                },
            ))
        })
        .collect()
}

/// The size of every program, as the kernel reports it.
fn sizes() -> Result<Vec<(Hook, Size)>> {
    let pod = Redirected::new("budget", &every_port())?;
    let reader = pod.owner.reader()?;
    let hooks = Hook::ALL.into_iter().chain([Hook::SkLookup]);
    let reports = hooks.map(|hook| {
        let report = if hook == Hook::SkLookup {
            // This program is loaded anew for each pod.
            linked_program_report(&reader.pins().link(pod.cgroup.id(), hook))?
        } else {
            program_report(reader.pins(), hook)?
        };
        Ok((hook, report))
    });
    let reports = reports.collect::<Result<Vec<_>>>()?;
    let is_told = reports.iter().all(|(_, (_, verified))| verified.is_some());
    let measured = if is_told {
        Vec::new()
    } else {
        verified_instructions()?
    };
    let size = |(hook, (instructions, told)): (Hook, (u32, Option<u32>))| {
        let found = measured.iter().find(|(of, _)| *of == hook);
        let verified = told.or_else(|| found.map(|(_, verified)| *verified));
        let size = Size {
            instructions,
            verified: verified.context("measure the program")?,
        };
        Ok((hook, size))
    };
    reports.into_iter().map(size).collect()
}

/// Prints the size of every program, if this program was started with `programs`.
#[expect(clippy::print_stdout, reason = "the output of a command")]
pub(crate) fn intercept() -> Option<ExitCode> {
    if env::args_os().nth(1).is_none_or(|word| word != "programs") {
        return None;
    }
    Some(match sizes() {
        Ok(sizes) => {
            for (hook, size) in sizes {
                let name = hook.program();
                println!("program {name} {} {}", size.instructions, size.verified);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn every_program_keeps_within_its_budget() -> Tested {
    let mut budget = parse(BUDGET)?;
    let (mut wrong, mut measured) = (Vec::new(), String::new());
    for (hook, size) in sizes()? {
        let name = hook.program();
        let Size {
            instructions,
            verified,
        } = size;
        writeln!(measured, "{name:<16}{instructions:>12}{verified:>12}")?;
        match budget.remove(name) {
            Some(line) if size.is_within(line) => {}
            Some(line) => wrong.push(format!(
                "{name} exceeds its budget: {size:?}, budget {line:?}"
            )),
            None => wrong.push(format!("{name} has no line in the budget")),
        }
    }
    wrong.extend(
        budget
            .keys()
            .map(|name| format!("{name} is no program, but has a line in the budget")),
    );
    ensure!(
        wrong.is_empty(),
        "{}\nLook at what grew. If it should have, put these lines into redirect-ebpf/budget.txt \
         in the commit that makes it grow, and say there why:\n{measured}",
        wrong.join("\n")
    );
    Ok(())
}
