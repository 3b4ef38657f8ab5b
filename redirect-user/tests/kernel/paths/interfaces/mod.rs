//! Excluded interfaces (`-c`), in pods with two links to the world.

mod inbound;
mod outbound;
mod routes;
mod two_links;

pub(super) use self::{
    inbound::what_arrives_by_an_excluded_interface_is_left_alone,
    outbound::{
        an_excluded_lo_and_an_excluded_default_route_win_over_the_chain,
        what_leaves_by_an_excluded_interface_is_left_alone,
    },
    routes::{
        routes_to_an_excluded_interface_are_those_of_now,
        routing_that_a_destination_does_not_tell_is_refused,
    },
};
