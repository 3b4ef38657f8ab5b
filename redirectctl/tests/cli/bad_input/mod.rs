//! Commands that cannot be done are refused: one message with the cause, the place and the remedy, the documented exit
//! status, and no change.

mod pods;
mod refusal;
mod tests;
mod usage;
mod values;

use redirect_testkit::cases;

pub(crate) use self::refusal::assert_refused;
use crate::{Cases, Needs::Pods};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        tests::bad_command_lines_are_usage_errors,
        tests::bad_values_are_named,
        tests::bad_variables_are_named,
        tests::bad_cgroups_are_named,
        tests::bad_pods_are_named,
        tests::bad_files_are_named_with_their_line,
    ],
};
