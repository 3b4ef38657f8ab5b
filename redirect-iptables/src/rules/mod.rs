//! A configuration as Istio's iptables rules: the rule table with every value filled in, and the
//! text that `istio-iptables` would install.
//!
//! The words of a rule are spelled once, in redirect-common's rule table; here they get their
//! values and their place among the lines. Nothing here runs iptables.
//!
//! Depends on redirect-user and redirect-common. Used by the command line, and by tests as the text
//! that real iptables are given.

mod dns;
mod family;
mod interfaces;
mod live;
mod restore;
mod step;
mod table;
mod tproxy;

pub use family::Family;
pub use live::live_rule;
pub use restore::restore;
pub use table::{TableLine, TableRule, ipv6_off, table};
