//! What is accepted but does nothing, or not everything it says: the user is told once.

use super::{option::Opt, refusal::When, value::OptionValue};

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The option.
    pub option: Opt,
    /// The values that are worth a word.
    pub when: When,
    /// What happens instead.
    pub text: &'static str,
}

const fn notice(option: Opt, when: When, text: &'static str) -> Notice {
    Notice { option, when, text }
}

/// Everything that is accepted with a warning.
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

/// The warnings about a value: the option as given, then what happens.
pub(crate) fn notices(given: &OptionValue) -> impl Iterator<Item = String> {
    NOTICES
        .iter()
        .filter(|row| row.option == given.option && row.when.applies(given))
        .map(|row| match row.when {
            When::On => format!("{}: {}", given.name(), row.text),
            When::NotEmpty | When::Given | When::Is(_) | When::MoreThan(_) => {
                format!(
                    "{} \"{}\": {}",
                    given.name(),
                    given.text.escape_debug(),
                    row.text
                )
            }
        })
}
