//! A configuration as Istio's iptables rules: the rule table with every value filled in, and the
//! text that `istio-iptables` would install.
//!
//! The words of a rule are spelled once, in redirect-common's rule table. This module adds the
//! values and the order of the lines, and never runs iptables. Tests give the text to real iptables.

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
