//! Random policies and random connections, the same behind real iptables and behind the programs.
//!
//! Everything is generated from a seed that is printed, so that a run can be repeated. iptables get the rules that
//! `redirectctl rules` prints. `cargo xtask parity` makes any number of connections; the test makes a few.

mod comparison;
mod generate;
mod model;
mod mutants;
mod mutation;
mod parity;
mod random;
mod runner;
mod shrink;
mod site;
mod site_pair;

use redirect_testkit::cases;

pub(crate) use self::parity::intercept;
use crate::{Cases, Needs};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        random::random_connections_look_as_behind_real_iptables,
        random::without_the_programs_every_redirected_connection_differs,
    ],
};
