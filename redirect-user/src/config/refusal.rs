//! The table of refusals: options that are refused, with the reason. An option that would silently
//! do less than it says is worse than one that does not exist.

use redirect_common::abi::{MAX_INTERFACES, PROXY_IDS};

use super::{
    element::split,
    error::Problem,
    option::Opt,
    reason::Reason,
    value::{OptionValue, Source},
};

/// A condition on the value of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The text is not empty.
    NotEmpty,
    /// The text was given by a flag or a variable, and is not empty.
    Given,
    /// The switch is on.
    On,
    /// The text is exactly this one.
    Is(&'static str),
    /// The list has more elements than this number.
    MoreThan(usize),
}

impl When {
    pub(crate) fn applies(self, value: &OptionValue) -> bool {
        match self {
            Self::NotEmpty => !value.text.is_empty(),
            Self::Given => value.source != Source::Default && !value.text.is_empty(),
            Self::On => value.is_on(),
            Self::Is(text) => value.text == text,
            Self::MoreThan(most) => split(&value.text).nth(most).is_some(),
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The option that is refused.
    pub option: Opt,
    /// The values that are refused.
    pub when: When,
    /// Whether the option will be supported later.
    pub reason: Reason,
    /// The cause, and what to do instead.
    pub text: &'static str,
}

const fn not_yet(option: Opt, when: When, text: &'static str) -> Refusal {
    Refusal {
        option,
        when,
        reason: Reason::NotYet,
        text,
    }
}

const fn never(option: Opt, when: When, text: &'static str) -> Refusal {
    Refusal {
        option,
        when,
        reason: Reason::Never,
        text,
    }
}

/// The most groups that `istio-iptables` accepts.
const MAX_OWNER_GROUPS: usize = 64;

/// All refusals. The values have the right syntax, but ask for something that is not supported.
pub const REFUSALS: &[Refusal] = &[
    not_yet(
        Opt::ProxyUid,
        When::MoreThan(PROXY_IDS),
        "a pod has at most four proxy users: give no more than four uids",
    ),
    not_yet(
        Opt::ProxyGid,
        When::MoreThan(PROXY_IDS),
        "a pod has at most four proxy groups: give no more than four gids",
    ),
    not_yet(
        Opt::ExcludeInterfaces,
        When::MoreThan(MAX_INTERFACES),
        "a pod has at most eight excluded interfaces: give no more than eight names; one with + at its end stands for every name that begins so",
    ),
    never(
        Opt::Exclude,
        When::Is("*"),
        "excluding everything is redirecting nothing: leave -i empty, or run `redirectctl detach`",
    ),
    not_yet(
        Opt::VirtualInterfaces,
        When::NotEmpty,
        "forwarded traffic is not made by a socket of the pod: keep iptables for such pods",
    ),
    not_yet(
        Opt::DryRun,
        When::On,
        "leave it out: `redirectctl rules --format iptables` prints the rules that the other options stand for",
    ),
    not_yet(
        Opt::SkipRuleApply,
        When::On,
        "it asks for nothing to be changed: do not run this command at all",
    ),
    not_yet(
        Opt::RunValidation,
        When::On,
        "leave it out, and check the attached pod with `redirectctl status`",
    ),
    never(
        Opt::DropInvalid,
        When::On,
        "a hook at the socket sees no packets and no conntrack state: leave it out",
    ),
    never(
        Opt::CleanupOnly,
        When::On,
        "there are no rules to clean up: use `redirectctl detach`",
    ),
    never(
        Opt::OwnerGroups,
        When::MoreThan(MAX_OWNER_GROUPS),
        "istio-iptables takes no more either: list the other groups with --outbound-owner-groups-exclude instead",
    ),
];

/// The problems of a value, one for every row that applies.
pub(crate) fn refusals(value: &OptionValue) -> impl Iterator<Item = Problem> {
    REFUSALS
        .iter()
        .filter(|row| row.option == value.option && row.when.applies(value))
        .map(|row| Problem::Refused {
            option: value.name(),
            value: (row.when != When::On).then(|| value.text.clone()),
            reason: row.reason,
            remedy: row.text,
        })
}
