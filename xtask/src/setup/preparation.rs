//! The subcommand: finds or installs every part that a purpose needs.

use std::{fmt, time::Instant};

use anyhow::{Result, bail};

use super::{
    bpf_linker::BpfLinker, cargo_deny::CargoDeny, components::Components, envoy::Envoy, helm::Helm,
    kubernetes::Kubernetes, packages::Packages, part::Part, purpose::Purpose, qemu::Qemu,
    toolchain::Toolchain,
};

/// Make this machine ready: toolchain for BPF, bpf-linker, Debian packages, Envoy, Helm.
///
/// Only missing programs are installed. Debian packages need root. Without root, or on another system, the commands to
/// type are printed instead.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask setup              for a build
  cargo xtask setup --for test   for tests, too: iptables, haproxy, Envoy, Helm
  cargo xtask setup --for soak   for the long tests, too: Kubernetes
  cargo xtask setup --for kernels   for tests in other kernels: QEMU")]
pub(crate) struct Args {
    /// Purpose that the machine is made ready for
    #[arg(long = "for", value_enum, default_value_t = Purpose::Build, value_name = "PURPOSE")]
    purpose: Purpose,
}

/// Makes the parts of a purpose ready, and prints a line about each.
pub(crate) fn run(args: &Args) -> Result<()> {
    make_ready(args.purpose, Show::All)
}

/// Makes the parts ready that another subcommand needs. Prints nothing if none is missing.
pub(crate) fn ensure(purpose: Purpose) -> Result<()> {
    make_ready(purpose, Show::Changes)
}

/// The parts, in an order in which a later part may use an earlier one.
fn parts(purpose: Purpose) -> [Box<dyn Part>; 9] {
    [
        Box::new(Packages::for_purpose(purpose)),
        Box::new(Toolchain),
        Box::new(BpfLinker),
        Box::new(Envoy),
        Box::new(Helm),
        Box::new(Kubernetes),
        Box::new(Qemu),
        Box::new(Components),
        Box::new(CargoDeny),
    ]
}

/// Continues after a part that failed, so that one run shows every command to type.
fn make_ready(purpose: Purpose, show: Show) -> Result<()> {
    let mut missing = Vec::new();
    for part in parts(purpose) {
        let start = Instant::now();
        let state = if part.serves(purpose) {
            state_of(part.as_ref())
        } else {
            State::Skipped
        };
        if show == Show::All || matches!(state, State::Installed(_) | State::Missing(_)) {
            println!(
                "{state:<10} {:<16} {state:#} ({:.1} s)",
                part.name(),
                start.elapsed().as_secs_f64()
            );
        }
        if matches!(state, State::Missing(_)) {
            missing.push(part.name());
        }
    }
    if !missing.is_empty() {
        bail!("set up {}: see the messages above", missing.join(", "));
    }
    Ok(())
}

fn state_of(part: &dyn Part) -> State {
    match part.found() {
        Ok(Some(found)) => State::Found(found),
        Ok(None) => part.install().map_or_else(State::Missing, State::Installed),
        Err(err) => State::Missing(err),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Show {
    All,
    Changes,
}

enum State {
    Found(String),
    Installed(String),
    Skipped,
    Missing(anyhow::Error),
}

/// One padded word; in the alternate form, the explanation.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return match self {
                Self::Found(text) | Self::Installed(text) => f.write_str(text),
                Self::Skipped => f.write_str("not needed for this"),
                Self::Missing(err) => write!(f, "{err:#}"),
            };
        }
        f.pad(match self {
            Self::Found(_) => "ok",
            Self::Installed(_) => "installed",
            Self::Skipped => "skipped",
            Self::Missing(_) => "missing",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(purpose: Purpose) -> Vec<&'static str> {
        parts(purpose)
            .iter()
            .filter(|part| part.serves(purpose))
            .map(|part| part.name())
            .collect()
    }

    #[test]
    fn a_build_needs_no_test_program_and_no_lint_tool() {
        assert_eq!(
            needed(Purpose::Build),
            ["packages", "BPF compiler", "bpf-linker"]
        );
        assert_eq!(needed(Purpose::Demo), needed(Purpose::Build));
    }

    #[test]
    fn only_long_tests_need_kubernetes() {
        let mut long = needed(Purpose::Soak);
        long.retain(|&part| part != "Kubernetes");
        assert_eq!(long, needed(Purpose::Test));
        assert_ne!(long, needed(Purpose::Soak));
    }

    #[test]
    fn all_needs_every_part() {
        assert_eq!(needed(Purpose::All).len(), parts(Purpose::All).len());
    }

    #[test]
    fn a_state_is_a_padded_word_and_its_explanation() {
        let state = State::Found("0.13.0".to_owned());
        assert_eq!(format!("{state:<4}|{state:#}"), "ok  |0.13.0");
    }
}
