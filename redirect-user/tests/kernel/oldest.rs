//! The programs as the oldest kernels get them: without the abilities of newer ones.

use anyhow::ensure;
use redirect_common::abi::KernelFeatures;
use redirect_testkit::cases;
use redirect_user::bpf::{Attempt, Trial, try_load};

use crate::{Cases, Needs, Tested};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [every_program_loads_without_the_abilities_of_newer_kernels],
};

fn every_program_loads_without_the_abilities_of_newer_kernels() -> Tested {
    let Trial { maps, programs } = try_load(KernelFeatures::NONE);
    let maps = maps.iter().map(|(map, attempt)| (map.name(), attempt));
    let programs = programs
        .iter()
        .map(|(hook, attempt)| (hook.program(), attempt));
    let refused: Vec<_> = maps
        .chain(programs)
        .filter(|(_, attempt)| !matches!(attempt, Attempt::Accepted))
        .collect();
    ensure!(refused.is_empty(), "{refused:#?}");
    Ok(())
}
