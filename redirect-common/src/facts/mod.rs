//! Facts: the properties of a flow under a policy, one bit each, gathered before the first rule is
//! evaluated.
//!
//! This module is the only place that derives facts. Where a connect-time hook cannot see what
//! netfilter sees, the documentation of the fact says how the fact is derived instead.

mod fact;
mod inbound;
mod outbound;

pub use fact::{Fact, Facts};
pub use inbound::{InboundFlow, gather_inbound};
pub use outbound::{Flow, Owner, PolicyView, Transport, gather};
