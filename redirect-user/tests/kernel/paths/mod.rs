//! Every way in which an application can open a connection, put to real iptables as well: bound to
//! devices, addresses and ports, multipath, through `io_uring`, below somebody else's load
//! balancer.

mod balancer;
mod device;
mod interfaces;
mod multipath;
mod source;
mod uring;
mod validation;

use anyhow::{Result, ensure};
use redirect_testkit::{Dial, cases};
use redirect_user::config::{Include, RedirectConfig};

use crate::{
    Cases, Needs, Tested,
    differential::Twins,
    harness::{ELSEWHERE_V4, ELSEWHERE_V6, at, moved},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        device::a_bound_device_counts,
        device::the_proxy_reaches_itself_by_lo_where_iptables_lose_the_answer,
        source::a_bound_source_is_kept,
        interfaces::what_leaves_by_an_excluded_interface_is_left_alone,
        interfaces::an_excluded_lo_and_an_excluded_default_route_win_over_the_chain,
        interfaces::what_arrives_by_an_excluded_interface_is_left_alone,
        interfaces::routes_to_an_excluded_interface_are_those_of_now,
        interfaces::routing_that_a_destination_does_not_tell_is_refused,
        validation::istio_validation_reaches_its_own_port,
        balancer::a_load_balancer_above_does_not_hide_the_service,
        balancer::a_load_balancer_hides_the_service_from_iptables,
    ],
    Needs::Multipath => [
        multipath::a_multipath_socket_is_redirected_and_may_see_the_proxy,
        multipath::a_multipath_proxy_learns_nothing_of_multipath_clients,
    ],
    Needs::IoUring => [uring::io_uring_connects_like_connect],
};

/// uid and gid.
type Who = (u32, u32);
const ROOT: Who = (0, 0);
const APP: Who = (1000, 1000);
const PROXY: Who = (1337, 1337);

fn everything() -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        ..RedirectConfig::default()
    }
}

/// Two pods, everything redirected.
fn twins(name: &str) -> Result<Twins> {
    let twins = Twins::new(name)?;
    twins.configure(&everything())?;
    Ok(twins)
}

fn to(ip: &str, port: u16) -> Dial {
    Dial::to(at(ip, port))
}

/// The world, by IPv4.
fn world() -> Dial {
    to(ELSEWHERE_V4, 80)
}

/// The world, by IPv4 from an IPv6 socket.
fn mapped() -> Dial {
    world().mapped()
}

/// The world, by IPv6.
fn world6() -> Dial {
    to(ELSEWHERE_V6, 80)
}

/// Makes connections in both pods: everything that can be seen must be the same in both, and what
/// is expected: `outcome` is the server's name or an error, `rule` the one that decides.
fn walk<const N: usize>(
    twins: &Twins,
    (uid, gid): Who,
    outcome: &str,
    rule: &str,
    dials: [Dial; N],
) -> Tested {
    for dial in dials {
        let before = twins.ours.hits()?;
        // A port that the application chose is taken for a while: no second try.
        let (iptables, ours) = if dial.bind.is_some_and(|local| local.port() != 0) {
            twins.dial_both(uid, gid, &dial)?
        } else {
            twins.dial(uid, gid, &dial)?
        };
        ensure!(
            iptables == ours && ours.outcome == outcome,
            "{dial:?}: expected {outcome}\n  iptables: {iptables:?}\n  ours:     {ours:?}"
        );
        let counted = moved(&before, &twins.ours.hits()?);
        ensure!(counted.keys().eq([&rule]), "{dial:?}: {counted:?}");
    }
    Ok(())
}
