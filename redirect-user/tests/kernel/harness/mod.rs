//! The pods of the tests, with their servers, and the expected view of a dial.

mod expect;
mod redirected;
mod scene;

use std::net::{IpAddr, SocketAddr};

pub(crate) use self::{
    expect::{Expected, Server},
    redirected::{OwnerFolder, Redirected, Surroundings, dual_stack, moved, netns, ranges_of},
    scene::{
        DNS_PORT, ELSEWHERE_V4, ELSEWHERE_V6, FAR_V4, FAR_V6, IN_PORT, OUT_PORT, SECOND_V4,
        SECOND_V6, Scene,
    },
};

/// Parses an address. A test with an address that does not parse is wrong, so this panics.
pub(crate) fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().expect(ip), port)
}
