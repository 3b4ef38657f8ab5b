//! Each rule of the table, by flows that reach the rule.

mod decisions;
mod flows;
mod policy;

use redirect_testkit::cases;

use crate::{Cases, Needs};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        decisions::every_rule_decides_the_flows_that_reach_it,
        decisions::explain_names_the_rule_that_the_kernel_counts,
        decisions::a_detached_pod_fails_every_redirect_expectation,
    ],
};
