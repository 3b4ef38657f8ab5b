//! The abilities of the running kernel, found by loading a small program for each.

use std::{io, sync::OnceLock};

use redirect_common::abi::KernelFeatures;
use rustix::io::Errno;

use super::bpf::{Instruction, ProgramKind, verify};

/// An ability, and a program that no kernel without it accepts.
struct Trial {
    feature: KernelFeatures,
    kind: ProgramKind,
    /// The instructions before the end of the program. The context is in register 1.
    instructions: &'static [Instruction],
}

/// The number of the helper `bpf_get_netns_cookie` (include/uapi/linux/bpf.h).
const GET_NETNS_COOKIE: i32 = 122;
/// The offset of `ingress_ifindex` in `struct bpf_sk_lookup`.
const INGRESS_IFINDEX: i16 = 64;

const TRIALS: [Trial; 2] = [
    Trial {
        feature: KernelFeatures::NETNS_COOKIE,
        kind: ProgramKind::SockOps,
        instructions: &[Instruction::call(GET_NETNS_COOKIE)],
    },
    Trial {
        feature: KernelFeatures::INGRESS_IFINDEX,
        kind: ProgramKind::SkLookup,
        instructions: &[Instruction::load_word(0, 1, INGRESS_IFINDEX)],
    },
];

/// The abilities of the running kernel. The programs are tried once in a process.
///
/// An ability counts as missing only if the verifier refuses its program. If this process may not
/// load programs, every ability counts as present: loading the object then fails with the reason.
pub fn kernel_features() -> KernelFeatures {
    static FOUND: OnceLock<KernelFeatures> = OnceLock::new();
    *FOUND.get_or_init(|| {
        TRIALS
            .iter()
            .filter(|trial| !is_refused(&verify(trial.kind, trial.instructions)))
            .fold(KernelFeatures::NONE, |found, trial| found.or(trial.feature))
    })
}

/// Whether the verifier refused a program: EINVAL for a helper or an instruction, EACCES for a
/// field of the context.
fn is_refused(verified: &io::Result<()>) -> bool {
    let refusals = [Errno::INVAL, Errno::ACCESS].map(Errno::raw_os_error);
    let error = verified.as_ref().err().and_then(io::Error::raw_os_error);
    error.is_some_and(|error| refusals.contains(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_and_a_field_that_no_kernel_has_are_refused() {
        let kinds = [
            (ProgramKind::SockOps, Instruction::call(i32::MAX)),
            (ProgramKind::SkLookup, Instruction::load_word(0, 1, 4096)),
        ];
        for (kind, instruction) in kinds {
            match verify(kind, &[instruction]) {
                // Without the capabilities, nothing is tried.
                Err(error)
                    if error.kind() == io::ErrorKind::PermissionDenied
                        && error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {}
                verified => assert!(is_refused(&verified), "{kind:?}: {verified:?}"),
            }
        }
    }

    #[test]
    fn a_program_that_needs_no_ability_is_accepted_or_not_permitted() {
        for kind in [ProgramKind::SockOps, ProgramKind::SkLookup] {
            let verified = verify(kind, &[]);
            assert!(!is_refused(&verified), "{kind:?}: {verified:?}");
        }
    }
}
