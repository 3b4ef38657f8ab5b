//! The option `--output`.

use clap::Args;
use redirect_user::console::Format;

/// The option `--output`.
#[derive(Args, Debug)]
pub(super) struct OutputArg {
    /// Format of the results
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: Format,
}
