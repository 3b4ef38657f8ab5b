//! Types to map rows, and back; pure.
//!
//! Depends on `config`, `sys` and redirect-common. Used by `bpf` and `node`.

mod closure;
mod compile;
mod decompile;
mod exclusion;
mod fingerprint;
mod place;
mod ranges;
mod view;

pub use compile::{CompiledPolicy, compile};
pub use decompile::{canonical, decompile, excluded_interfaces, loopback4};
pub use exclusion::{Exclusion, Exits, Undecidable};
pub use place::{NoSuchId, Place, has_ipv6, locals};
pub use ranges::{RangeChange, RangeEdit, RangeError, RangeList, edit, ranges};
pub use view::CompiledView;
