//! The output of `iptables-save` and `ip6tables-save` as a typed model of the rules, and the walk of a packet through
//! them with the kernel's semantics.
//!
//! The model is complete: a part that is not understood stays as text, and a packet whose fate depends on it has no
//! verdict. Only [`redirect_user::sys::iptables_save`] runs programs; this module reads text.

mod error;
mod evaluate;
mod model;
mod number;
mod packet;
mod parse;
mod read_rule;
mod read_target;
mod words;

pub use error::{Fault, ParseError};
pub use evaluate::{Answer, DecidedBy, Verdict, inbound, outbound};
pub use model::{
    Bits, Chain, ConnmarkOp, IdRange, Match, Protocol, Rule, RuleKey, Ruleset, Table, Target, Test,
};
pub use packet::{Packet, Via};
pub use parse::parse;
pub use redirect_user::config::Interface;
