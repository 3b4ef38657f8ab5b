//! Inbound connections: connections from outside of the pod to the pod.

mod arrivals;
mod configs;
mod listeners;
mod pods;

use redirect_testkit::{DialReport, cases};

pub(crate) use self::configs::every_port;
use crate::{Cases, Needs};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        arrivals::what_arrives_looks_as_behind_real_iptables,
        arrivals::what_arrives_looks_as_behind_tproxy,
        arrivals::what_arrives_at_a_detached_pod_looks_different,
    ],
    Needs::Pods => [
        arrivals::calls_to_own_addresses_are_left_alone,
        listeners::the_proxy_may_start_before_or_after_the_attach,
        listeners::workers_that_share_a_port_replace_each_other,
        listeners::a_proxy_that_listens_on_loopback_is_enough,
        listeners::one_socket_may_serve_both_families,
        listeners::a_multipath_listener_gets_nothing,
        pods::inbound_is_switched_on_and_off_by_an_update,
        pods::one_pod_of_a_namespace_has_its_inbound,
        pods::the_machines_own_namespace_is_refused,
        pods::what_a_removed_namespace_leaves_is_collected,
    ],
};

/// The name of the server that answered, or `nobody`.
fn answered(dialled: &DialReport) -> &str {
    dialled.server().unwrap_or("nobody")
}
