//! The pinned maps, as typed values.

mod entries;
mod namespaces;
mod open;
mod pinned_maps;
mod shadow;
mod usage;

pub(super) use self::open::{check_stored, ignore_missing, no_hits, open, optional, sum};
pub use self::{
    pinned_maps::Maps,
    usage::{MapFill, MemoryUse},
};
