//! The table of notices: options that are accepted although they have no effect, or not the full
//! one. The user gets a warning.

use super::{option::Opt, refusal::When, value::OptionValue};

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The option that the notice is about.
    pub option: Opt,
    /// The values that cause the warning.
    pub when: When,
    /// The effect that the value has instead.
    pub text: &'static str,
}

const fn notice(option: Opt, when: When, text: &'static str) -> Notice {
    Notice { option, when, text }
}

/// All notices.
pub const NOTICES: &[Notice] = &[
    notice(
        Opt::TproxyMark,
        When::Given,
        "it has no effect: no packet is marked",
    ),
    notice(
        Opt::TproxyTable,
        When::Given,
        "it has no effect: no packet is routed in another way",
    ),
    notice(
        Opt::ProbePort,
        When::Given,
        "it has no effect: there is no validation run",
    ),
    notice(
        Opt::ProbeTimeout,
        When::Given,
        "it has no effect: there is no validation run",
    ),
    notice(
        Opt::NetworkNamespace,
        When::Given,
        "it has no effect: there is no iptables lock; a pod's namespace is chosen with --netns",
    ),
    notice(
        Opt::CniMode,
        When::On,
        "it has no effect: there is no iptables lock",
    ),
    notice(
        Opt::Reconcile,
        When::On,
        "it has no effect: an update always replaces the policy",
    ),
    notice(
        Opt::ForceApply,
        When::On,
        "it has no effect: an update always replaces the policy",
    ),
    notice(
        Opt::NativeNftables,
        When::On,
        "it has no effect: no nftables rule is written",
    ),
    notice(
        Opt::ForceIptablesBinary,
        When::Given,
        "it has no effect: no iptables rule is written",
    ),
    notice(
        Opt::LogOutputLevel,
        When::Given,
        "it has no effect: only warnings and errors are printed",
    ),
    notice(
        Opt::LogAsJson,
        When::On,
        "it has no effect: results are JSON with --output json, messages are text",
    ),
];

/// The warnings about a value. Each begins with the option as the user wrote it.
pub(crate) fn notices(value: &OptionValue) -> impl Iterator<Item = String> {
    NOTICES
        .iter()
        .filter(|row| row.option == value.option && row.when.applies(value))
        .map(|row| match row.when {
            When::On => format!("{}: {}", value.name(), row.text),
            When::NotEmpty | When::Given | When::Is(_) | When::MoreThan(_) => {
                format!(
                    "{} \"{}\": {}",
                    value.name(),
                    value.text.escape_debug(),
                    row.text
                )
            }
        })
}
