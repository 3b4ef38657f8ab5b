//! Types to map rows and back. Every function of this module is pure.

mod compile;
mod covering;
mod decompile;
mod exclusion;
mod fingerprint;
mod pod_network;
mod ranges;
mod view;

pub use compile::{CompiledPolicy, compile};
pub use decompile::{canonical, decompile, excluded_interfaces, loopback4};
pub use exclusion::{Exclusion, Undecidable};
pub use fingerprint::FingerprintKey;
pub use pod_network::{NoSuchId, PodNetwork, has_ipv6, locals};
pub use ranges::{RangeChange, RangeEdit, RangeError, RangeList, edit, ranges};
pub use view::CompiledView;
