//! Every way in which an application can open a connection, compared with real iptables: sockets that are bound to
//! devices, addresses and ports, multipath sockets, `io_uring`, a socket load balancer above.

mod device;
mod interfaces;
mod multipath;
mod socket_lb;
mod source;
mod uring;
mod validation;
mod walk;

use redirect_testkit::cases;

use crate::{Cases, Needs};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        device::a_bound_device_decides_the_route,
        device::the_proxy_reaches_itself_by_lo_where_iptables_lose_the_answer,
        source::a_bound_source_is_kept,
        interfaces::connections_out_of_an_excluded_interface_are_left_alone,
        interfaces::an_excluded_lo_and_an_excluded_default_route_win_over_the_chain,
        interfaces::connections_into_an_excluded_interface_are_left_alone,
        interfaces::routes_to_an_excluded_interface_are_followed,
        interfaces::routing_by_more_than_the_destination_is_refused,
        validation::istio_validation_reaches_its_own_port,
        socket_lb::a_load_balancer_above_does_not_hide_the_service,
        socket_lb::a_load_balancer_hides_the_service_from_iptables,
    ],
    Needs::Multipath => [
        multipath::a_multipath_socket_is_redirected_and_may_see_the_proxy,
        multipath::a_multipath_proxy_learns_nothing_of_multipath_clients,
    ],
    Needs::IoUring => [uring::io_uring_connects_like_connect],
};
