//! The purposes of a set-up.

use clap::ValueEnum;

/// The purpose of a set-up.
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
    /// Build, and run tests in other kernels
    Kernels,
    /// Build, and write generated files: tables, deploy/*.yaml
    Docs,
    /// Build, and check style and dependencies
    Lint,
    /// All of these
    All,
}

impl Purpose {
    /// Whether tests are run, long ones or others.
    pub(super) const fn is_test(self) -> bool {
        matches!(self, Self::Test | Self::Soak)
    }
}
