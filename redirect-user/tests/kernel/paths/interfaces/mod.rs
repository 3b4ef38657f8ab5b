//! Excluded interfaces (`-c`), in pods with two links to the world.

mod inbound;
mod outbound;
mod routes;
mod two_links;

pub(super) use self::{
    inbound::connections_into_an_excluded_interface_are_left_alone,
    outbound::{
        an_excluded_lo_and_an_excluded_default_route_win_over_the_chain,
        connections_out_of_an_excluded_interface_are_left_alone,
    },
    routes::{
        routes_to_an_excluded_interface_are_followed,
        routing_by_more_than_the_destination_is_refused,
    },
};
