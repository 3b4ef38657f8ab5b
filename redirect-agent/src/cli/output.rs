//! How results are printed.

use clap::Args;
use redirect_user::console::Format;

/// How results are printed.
#[derive(Args, Debug)]
pub(super) struct OutputArg {
    /// How results are printed
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: Format,
}
