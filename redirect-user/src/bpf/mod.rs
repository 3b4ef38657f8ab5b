//! The kernel's BPF objects: programs, maps and links. Only this module names aya.

pub mod btf;
pub mod features;
mod inbound;
mod links;
#[cfg(feature = "log")]
pub mod log;
mod maps;
mod measure;
mod object;
mod pins;
mod recovery;
mod runs;
mod view;

pub use inbound::InboundMaps;
pub use links::{
    attach, attach_inbound, linked_program_report, program_id, program_names, program_report,
    replace, replace_inbound,
};
pub use maps::{LiveRanges, MapFill, Maps, MemoryUse, PolicyEntries};
pub use measure::verified_instructions;
pub use object::{Attempt, Trial, build, load, prepare_programs, take_new_programs, try_load};
pub use pins::Pins;
pub use recovery::{active_rows, restore_maps, restore_meta};
pub use runs::{Runs, count_runs, linked_program_runs, program_runs};
pub use view::LiveView;
