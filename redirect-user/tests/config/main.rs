//! Tests of options as users write them: through clap, the environment and `resolve`.

#![expect(
    clippy::panic,
    clippy::panic_in_result_fn,
    reason = "a helper's panic fails its test"
)]

mod refused;
mod round_trip;
mod values;

use std::collections::BTreeMap;

use clap::{Args as _, CommandFactory as _, Parser};
use proptest::prelude::*;
use redirect_user::config::{
    Bound, ConfigError, Environment, Flags, Inbound, InboundPorts, Include, Kind, Opt, OwnerGroups,
    PortRange, Problem, REFUSALS, Reason, RedirectConfig, Resolved, parse_cidr_file,
    parse_port_range, resolve,
};

#[derive(Parser)]
#[command(name = "test")]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

type Variables<'a> = &'a [(&'a str, &'a str)];

fn flags(arguments: &[&str]) -> Result<Flags, clap::Error> {
    Cli::try_parse_from([&["test"], arguments].concat()).map(|cli| cli.flags)
}

/// Resolves on a system with the users `istio-proxy` (1400) and `envoy` (1500), and the group
/// `staff` (50).
fn resolved(arguments: &[&str], variables: Variables<'_>) -> Result<Resolved, ConfigError> {
    let flags = flags(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    let environment: Environment = variables.iter().copied().collect();
    let users = |name: &str| match name {
        "istio-proxy" => Some(1400),
        "envoy" => Some(1500),
        _ => None,
    };
    let groups = |name: &str| (name == "staff").then_some(50);
    resolve(&flags, &environment, &users, &groups)
}

fn config(arguments: &[&str], variables: Variables<'_>) -> RedirectConfig {
    resolved(arguments, variables)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
        .config
}

/// Resolves one option: a flag with its value, a flag alone if the value is empty, or a variable.
fn one(name: &str, value: &str) -> Result<Resolved, ConfigError> {
    match (name.starts_with('-'), value) {
        (true, "") => resolved(&[name], &[]),
        (true, value) => resolved(&[name, value], &[]),
        (false, value) => resolved(&[], &[(name, value)]),
    }
}

fn single(ports: &[u16]) -> Vec<PortRange> {
    ports.iter().copied().map(PortRange::single).collect()
}
