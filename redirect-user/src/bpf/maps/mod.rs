//! The pinned maps, as typed values.

mod ids;
mod live_ranges;
mod namespaces;
mod open;
mod pinned_maps;
mod policies;
mod policy_arrays;
mod policy_maps;
mod shadow;
mod usage;

pub(super) use self::open::{check_stored, ignore_missing, no_hits, open, optional, sum};
pub use self::{
    live_ranges::LiveRanges,
    pinned_maps::Maps,
    policies::PolicyEntries,
    usage::{MapFill, MemoryUse},
};
