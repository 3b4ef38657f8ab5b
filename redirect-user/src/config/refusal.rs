//! What is refused, by name and reason. An option that would silently do less than it says is
//! worse than one that does not exist.

use std::fmt;

use redirect_common::abi::{MAX_INTERFACES, PROXY_IDS};

use super::{
    element::split,
    error::Problem,
    option::Opt,
    value::{OptionValue, Source},
};

/// Whether an option will be supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is planned.
    NotYet,
    /// It cannot be: a hook at the socket does not see what it is about.
    Never,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotYet => "not supported yet",
            Self::Never => "not supported, and never will be",
        })
    }
}

/// When a row of a table applies to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The text is not empty.
    NotEmpty,
    /// The text was given, by flag or environment, and is not empty.
    Given,
    /// The switch is on.
    On,
    /// The text is exactly this.
    Is(&'static str),
    /// The list has more elements than this.
    MoreThan(usize),
}

impl When {
    pub(crate) fn applies(self, given: &OptionValue) -> bool {
        match self {
            Self::NotEmpty => !given.text.is_empty(),
            Self::Given => given.source != Source::Default && !given.text.is_empty(),
            Self::On => given.is_on(),
            Self::Is(text) => given.text == text,
            Self::MoreThan(most) => split(&given.text).nth(most).is_some(),
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The option.
    pub option: Opt,
    /// The values that are refused.
    pub when: When,
    /// Whether that will change.
    pub reason: Reason,
    /// Why, and what to do.
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

/// The most groups `istio-iptables` takes.
const MAX_OWNER_GROUPS: usize = 64;

/// Everything that is refused although its syntax is right.
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
        "a pod has at most eight excluded interfaces: give no more than eight names, or one with + at its end for all that begin so",
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
        "istio-iptables takes no more either: list the other groups, those not to redirect",
    ),
];

/// Every row that applies to a value.
pub(crate) fn refusals(given: &OptionValue) -> impl Iterator<Item = Problem> {
    REFUSALS
        .iter()
        .filter(|row| row.option == given.option && row.when.applies(given))
        .map(|row| Problem::Refused {
            option: given.name(),
            value: (row.when != When::On).then(|| given.text.clone()),
            reason: row.reason,
            remedy: row.text,
        })
}
