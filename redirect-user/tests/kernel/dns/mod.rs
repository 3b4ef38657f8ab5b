//! DNS capture: every way to ask a resolver, behind Istio's rules in real iptables and behind the programs.

mod accepted;
mod matrix;
mod nested;
mod queries;
mod view;

use redirect_testkit::cases;

use crate::{Cases, Needs};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        queries::queries_look_as_behind_real_iptables,
        queries::a_detached_pod_asks_the_resolvers_themselves,
        nested::the_innermost_policy_that_captures_decides,
        queries::a_resolver_that_is_down_refuses,
    ],
};
