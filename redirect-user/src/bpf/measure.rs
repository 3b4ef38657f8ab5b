//! The work of the verifier on kernels that do not keep its extent with a program (before Linux 5.16).

use anyhow::{Context as _, Result, bail};
use aya::{EbpfLoader, VerifierLogLevel, programs::ProgramError};
use redirect_common::hooks::Hook;

use super::object::{Constants, all_hooks, create_maps, load_without_context, program};
use crate::sys::limits::without_descriptors;

/// The number of instructions that the verifier walks in each program.
///
/// The verifier writes the number into its log, and the loader returns the log only of a failed load. Without a free
/// descriptor, a load fails after the program was verified. Nothing else may open a descriptor meanwhile.
pub fn verified_instructions() -> Result<Vec<(Hook, u32)>> {
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::STATS);
    let mut object = create_maps(loader, &Constants::read()?)?;
    all_hooks()
        .map(|hook| {
            let program = program(&mut object, hook)?;
            let loaded = without_descriptors(|| load_without_context(program))?;
            let Err(ProgramError::LoadError { verifier_log, .. }) = loaded else {
                bail!(
                    "measure program `{}`: it was not loaded: {loaded:?}",
                    hook.program()
                );
            };
            let log = verifier_log.to_string();
            let verified = processed(&log).with_context(|| {
                format!(
                    "measure program `{}`: the verifier wrote {log:?}",
                    hook.program()
                )
            })?;
            Ok((hook, verified))
        })
        .collect()
}

/// The number in the line `processed N insns`.
fn processed(log: &str) -> Option<u32> {
    let rest = log
        .lines()
        .find_map(|line| line.strip_prefix("processed "))?;
    rest.split_once(" insns")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_read_from_the_log() {
        let log = "stack depth 208\nprocessed 206983 insns (limit 1000000) mark_read 30\n";
        assert_eq!(processed(log), Some(206_983));
        assert_eq!(processed("processed"), None);
    }
}
