//! Rules in both directions. Rendered rules are equal to Istio's own texts, and real iptables accept them and do the
//! same. Rendered rules and the rules that real iptables print become the same options again. A packet's walk through a
//! text ends at the same server as a real connection.
#![expect(
    clippy::expect_used,
    clippy::panic_in_result_fn,
    reason = "a panic is how a test fails"
)]

mod configs;
mod golden;
mod import;
mod kernel;
mod parity;
mod walk;

use std::process::ExitCode;

use anyhow::Result;
use redirect_testkit::{helper, iptables::Backend, missing_or_fail, runner};

type Tested = Result<()>;
/// The tests of one module with the same needs.
type Cases = runner::Cases<Needs>;

/// The needs of a test.
#[derive(Debug, Clone, Copy)]
enum Needs {
    /// Nothing.
    Nothing,
    /// Istio's golden texts, which are not part of the repository.
    Golden,
    /// Root, and iptables of both backends.
    Iptables,
}

const MODULES: &[&[Cases]] = &[
    golden::CASES,
    import::CASES,
    kernel::CASES,
    parity::CASES,
    walk::CASES,
];

fn main() -> ExitCode {
    helper::intercept();
    runner::run(runner::trials(MODULES.concat(), missing))
}

/// The reason to skip tests with these needs, if there is one.
fn missing(needs: Needs) -> Result<Option<String>> {
    match needs {
        Needs::Nothing => Ok(None),
        Needs::Golden => Ok(golden::folder().err()),
        Needs::Iptables => {
            missing_or_fail(&[Backend::Legacy.programs(), Backend::Nft.programs()].concat())
        }
    }
}
