//! The programs as the oldest kernels get them: without the abilities of newer ones.

use anyhow::ensure;
use redirect_common::abi::KernelFeatures;
use redirect_testkit::cases;
use redirect_user::{
    bpf::{Attempt, Trial, try_load},
    config::{Interface, RedirectConfig},
    sys::kernel_features::kernel_features,
};

use crate::{Cases, Needs, Tested, harness::Redirected, inbound::every_port};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        every_program_loads_without_the_abilities_of_newer_kernels,
        excluding_an_interface_from_inbound_is_refused_where_programs_cannot_see_it,
    ],
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

fn excluding_an_interface_from_inbound_is_refused_where_programs_cannot_see_it() -> Tested {
    let config = RedirectConfig {
        exclude_interfaces: vec![Interface("eth1".to_owned())],
        ..every_port()
    };
    let attached = Redirected::new("oldest", &config);
    if kernel_features().ingress_ifindex() {
        attached?;
        return Ok(());
    }
    let refused = attached.err().map(|error| format!("{error:#}"));
    let names_the_option = refused
        .as_ref()
        .is_some_and(|text| text.starts_with("exclude interfaces (-c) from inbound"));
    ensure!(names_the_option, "{refused:?}");
    Ok(())
}
