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
        arrivals::inbound_connections_look_as_behind_real_iptables,
        arrivals::inbound_connections_look_as_behind_tproxy,
        arrivals::inbound_connections_of_a_detached_pod_look_different,
    ],
    Needs::Pods => [
        arrivals::calls_to_local_addresses_are_left_alone,
        listeners::the_proxy_may_start_before_or_after_the_attach,
        listeners::workers_that_share_a_port_replace_each_other,
        listeners::a_proxy_that_listens_on_loopback_is_enough,
        listeners::one_socket_may_serve_both_families,
        listeners::a_multipath_listener_gets_nothing,
        pods::inbound_is_switched_on_and_off_by_an_update,
        pods::one_pod_of_a_namespace_has_its_inbound,
        pods::the_machines_own_namespace_is_refused,
        pods::leftovers_of_a_removed_namespace_are_collected,
    ],
};

/// The name of the server that answered, or `none`.
fn answered(dialled: &DialReport) -> &str {
    dialled.server().unwrap_or("none")
}
