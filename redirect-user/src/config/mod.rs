//! Strings to types.
mod element;
mod ports;
mod redirect;
pub use ports::PortRange;
pub use redirect::*;
