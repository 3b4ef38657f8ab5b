//! The options that the rules of an injected pod were made of.
//!
//! [`read_config`] guesses: it looks only for rules that `istio-iptables` writes. [`differences`] then renders the
//! guessed configuration and compares it with the text, and names every rule that the options do not express, with its
//! line. So no guess has to be right to be safe.

mod difference;
mod outbound;
mod read;

pub use difference::{DifferenceKind, RuleDifference, differences};
pub use read::{ImportError, read_config};
