//! Two pods, one behind Istio's rules in real iptables and one behind the programs, and the same connections made in
//! both: everything that either end can see must be the same.

mod accepted;
mod backends;
mod comparison;
mod matrix;
mod view;

use redirect_testkit::cases;

pub(crate) use self::{
    accepted::{ACCEPTED, accepted},
    backends::{Backends, install, replace},
    matrix::{IDENTITIES, probes},
    view::View,
};
use crate::{Cases, Needs};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        comparison::everything_looks_as_behind_real_iptables,
        comparison::a_detached_pod_looks_different,
    ],
};
