//! The rules of an injected pod to the options they were made of.
//!
//! [`read_config`] guesses: it looks only for what `istio-iptables` writes. What the guess stands
//! for is then rendered and compared with what was read, so that whatever the options do not
//! express is told, with its line, and nothing has to be guessed right to be safe.
//!
//! Depends on `netfilter`, `rules` and `config`. Used by the command line.

mod difference;
mod outbound;
mod read;

pub use difference::{Difference, Kind, differences};
pub use read::{ImportError, read_config};
