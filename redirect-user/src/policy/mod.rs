//! Types to map rows, and back; pure.
//!
//! Depends on `config` and redirect-common. Used by `bpf` and `node`.

mod closure;
mod compile;
mod decompile;
mod ranges;
mod view;

pub use compile::{CompiledPolicy, Place, compile};
pub use decompile::{decompile, loopback4};
pub use ranges::{RangeChange, RangeEdit, RangeError, RangeList, edit, ranges};
pub use view::CompiledView;
