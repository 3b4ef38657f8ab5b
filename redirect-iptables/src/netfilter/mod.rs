//! What `iptables-save` and `ip6tables-save` print, understood: a typed model of the rules, and the
//! walk of a packet through them with the kernel's semantics.
//!
//! Nothing is dropped: what is not understood stays in the model as text, and a packet whose fate
//! depends on it has no verdict. Nothing here runs a program or asks the kernel; that is
//! [`redirect_user::sys::iptables_save`].
//!
//! Depends on `config` (ports, interfaces), `rules` (families) and redirect-common (owners). Used by `import`
//! and `parity`.

mod evaluate;
mod model;
mod number;
mod packet;
mod parse;
mod read_rule;
mod read_target;
mod words;

pub use evaluate::{Answer, By, Verdict, inbound, outbound};
pub use model::{
    Bits, Chain, ConnmarkOp, IdRange, Match, Protocol, Rule, RuleKey, Ruleset, Table, Target, Test,
};
pub use packet::{Packet, Via};
pub use parse::{Fault, ParseError, parse};
pub use redirect_user::config::Interface;
