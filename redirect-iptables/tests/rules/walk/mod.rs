//! A packet's walk through a text of rules ends at the same server as a real connection under these rules. The counter
//! of the rule that decided moves in the kernel.

mod calls;
mod comparison;
mod foreign;
mod scene;

use redirect_testkit::cases;

use crate::{Cases, Needs};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        comparison::a_walk_ends_where_connections_do_under_rendered_rules,
        comparison::a_walk_ends_where_connections_do_under_foreign_rules,
    ],
};
