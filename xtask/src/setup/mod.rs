//! `cargo xtask setup`: finds or installs everything the other subcommands need.
//!
//! Each thing that can be missing is a `Part`. A part is found or installed on its own, so a second run changes
//! nothing and a broken run is repaired by the next. Nothing here prompts, and nothing but a Debian package is ever
//! installed outside the cache folders and rustup.

mod bpf_linker;
mod cargo_deny;
mod components;
mod debian;
mod envoy;
mod helm;
mod kubernetes;
mod packages;
mod toolchain;
mod venv;

use std::{fmt, time::Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use self::{
    bpf_linker::BpfLinker, cargo_deny::CargoDeny, components::Components, envoy::Envoy, helm::Helm,
    kubernetes::Kubernetes, packages::Packages, toolchain::Toolchain,
};
pub(crate) use self::{cargo_deny::program as cargo_deny, helm::program as helm};

/// Make this machine ready: toolchain for BPF, bpf-linker, Debian packages, Envoy, Helm.
///
/// Installs only what is missing. Debian packages need root; without it, or on another system, the commands to type
/// are printed instead.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask setup                 what a build needs
  cargo xtask setup --for test      the tests' peers as well: iptables, haproxy, Envoy, Helm
  cargo xtask setup --for soak      the long tests' as well: Kubernetes")]
pub(crate) struct Args {
    /// What the machine is to be made ready for
    #[arg(long = "for", value_enum, default_value_t = Purpose::Build, value_name = "PURPOSE")]
    purpose: Purpose,
}

/// What a machine can be made ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// Compile everything, the BPF object included
    Build,
    /// Build, and run the demo with the built-in proxy
    Demo,
    /// Build, and run the demo with Envoy
    DemoEnvoy,
    /// Build, and run all tests and benchmarks
    Test,
    /// Build, and run the long tests as well, with Kubernetes, which is built for them
    Soak,
    /// Build, and write what is generated: tables, deploy/*.yaml
    Docs,
    /// Build, and check style and dependencies
    Lint,
    /// All of these
    All,
}

impl Purpose {
    /// Whether tests are run, the long ones or the others.
    const fn is_test(self) -> bool {
        matches!(self, Self::Test | Self::Soak)
    }
}

/// One thing that can be missing.
trait Part {
    /// What the operator calls it.
    fn name(&self) -> &'static str;

    /// Whether that purpose needs it. Most parts are for a build, and so for everything.
    fn serves(&self, _purpose: Purpose) -> bool {
        true
    }

    /// What is there already, in a few words. Quick, because it runs before every subcommand.
    fn found(&self) -> Result<Option<String>>;

    /// Installs it and says what is there now. An error tells what to type instead.
    fn install(&self) -> Result<String>;
}

/// Makes everything ready that the purpose needs, one line per part.
pub(crate) fn run(args: &Args) -> Result<()> {
    make_ready(args.purpose, Show::All)
}

/// Makes ready what another subcommand needs; silent when nothing is missing.
pub(crate) fn ensure(purpose: Purpose) -> Result<()> {
    make_ready(purpose, Show::Changes)
}

/// The parts in the order of their dependence: a later part may use an earlier one.
fn parts(purpose: Purpose) -> [Box<dyn Part>; 8] {
    [
        Box::new(Packages::for_purpose(purpose)),
        Box::new(Toolchain),
        Box::new(BpfLinker),
        Box::new(Envoy),
        Box::new(Helm),
        Box::new(Kubernetes),
        Box::new(Components),
        Box::new(CargoDeny),
    ]
}

/// Goes on after a part that failed, so that one run shows every command there is to type.
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
        bail!(
            "set up {}: see what is printed above for each",
            missing.join(", ")
        );
    }
    Ok(())
}

fn state_of(part: &dyn Part) -> State {
    match part.found() {
        Ok(Some(what)) => State::Found(what),
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

/// One word, padded as asked; in the alternate form, the explanation.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return match self {
                Self::Found(what) | Self::Installed(what) => f.write_str(what),
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

    fn wanted(purpose: Purpose) -> Vec<&'static str> {
        parts(purpose)
            .iter()
            .filter(|part| part.serves(purpose))
            .map(|part| part.name())
            .collect()
    }

    #[test]
    fn a_build_needs_no_peer_and_no_lint_tool() {
        assert_eq!(
            wanted(Purpose::Build),
            ["packages", "BPF compiler", "bpf-linker"]
        );
        assert_eq!(wanted(Purpose::Demo), wanted(Purpose::Build));
    }

    #[test]
    fn long_tests_need_an_api_server_more_than_others() {
        let mut long = wanted(Purpose::Soak);
        long.retain(|&part| part != "Kubernetes");
        assert_eq!(long, wanted(Purpose::Test));
        assert_ne!(long, wanted(Purpose::Soak));
    }

    #[test]
    fn all_needs_every_part() {
        assert_eq!(wanted(Purpose::All).len(), parts(Purpose::All).len());
    }

    #[test]
    fn a_state_is_a_padded_word_and_its_explanation() {
        let state = State::Found("0.13.0".to_owned());
        assert_eq!(format!("{state:<4}|{state:#}"), "ok  |0.13.0");
    }
}
