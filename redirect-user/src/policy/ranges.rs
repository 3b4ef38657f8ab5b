//! Edits of a list of ranges in a configuration.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::Serialize;
use thiserror::Error;

use crate::config::{Include, RedirectConfig};

/// A list of ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeList {
    /// The excluded ranges (`-x`).
    Exclude,
    /// The included ranges (`-i`).
    Include,
}

/// An edit of a list with given ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeEdit {
    /// Adds the ranges. Ranges that are in the list already stay.
    Add,
    /// Removes the ranges. All of them must be in the list.
    Remove,
    /// Replaces the list with the ranges.
    Replace,
}

/// The ranges that an edit adds and removes, in address order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RangeChange {
    /// Ranges that the list did not contain before.
    #[serde(serialize_with = "as_text")]
    pub added: Vec<IpNet>,
    /// Ranges that the list no longer contains.
    #[serde(serialize_with = "as_text")]
    pub removed: Vec<IpNet>,
    /// The number of ranges in the list after the edit.
    pub total: usize,
}

fn as_text<S: serde::Serializer>(nets: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(nets.iter().map(ToString::to_string))
}

/// The reason why an edit is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RangeError {
    /// The list is `*`, which is not a list of ranges.
    #[error(
        "change the included ranges: they are '*', everything; set ranges with `redirectctl update -i`"
    )]
    Everything,
    /// Some ranges to remove are not in the list.
    #[error("remove ranges: not in the list: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Absent(Vec<IpNet>),
}

/// The ranges of a list; `None` if it is `*`.
pub fn ranges(config: &RedirectConfig, list: RangeList) -> Option<&[IpNet]> {
    match (list, &config.include) {
        (RangeList::Exclude, _) => Some(&config.exclude),
        (RangeList::Include, Include::Cidrs(nets)) => Some(nets),
        (RangeList::Include, Include::Any) => None,
    }
}

/// Edits a list. Returns the new configuration and the difference. Ranges are compared without host
/// bits.
pub fn edit(
    config: &RedirectConfig,
    list: RangeList,
    edit: RangeEdit,
    given: &[IpNet],
) -> Result<(RedirectConfig, RangeChange), RangeError> {
    let before = ranges(config, list).ok_or(RangeError::Everything)?;
    let key = |net: &IpNet| net.trunc();
    let had: BTreeSet<_> = before.iter().map(key).collect();
    let wanted: BTreeSet<_> = given.iter().map(key).collect();
    let after: Vec<IpNet> = match edit {
        RangeEdit::Add => before
            .iter()
            .chain(given.iter().filter(|net| !had.contains(&key(net))))
            .copied()
            .collect(),
        RangeEdit::Remove => {
            let absent: Vec<_> = given
                .iter()
                .filter(|net| !had.contains(&key(net)))
                .copied()
                .collect();
            if !absent.is_empty() {
                return Err(RangeError::Absent(absent));
            }
            before
                .iter()
                .filter(|net| !wanted.contains(&key(net)))
                .copied()
                .collect()
        }
        RangeEdit::Replace => given.to_vec(),
    };
    let has: BTreeSet<_> = after.iter().map(key).collect();
    let change = RangeChange {
        added: has.difference(&had).copied().collect(),
        removed: had.difference(&has).copied().collect(),
        total: has.len(),
    };
    let mut config = config.clone();
    match list {
        RangeList::Exclude => config.exclude = after,
        RangeList::Include => config.include = Include::Cidrs(after),
    }
    Ok((config, change))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    fn config() -> RedirectConfig {
        RedirectConfig {
            include: Include::Any,
            exclude: nets(&["10.0.0.0/8", "fd00::/8"]),
            ..RedirectConfig::default()
        }
    }

    #[test]
    fn edits_report_exactly_the_difference() {
        let cases = [
            (
                RangeEdit::Add,
                &["36.152.44.0/24", "10.1.2.3/8"][..],
                &["36.152.44.0/24"][..],
                &[][..],
                3,
            ),
            (RangeEdit::Remove, &["fd00::/8"], &[], &["fd00::/8"], 1),
            (
                RangeEdit::Replace,
                &["10.0.0.0/8", "1.0.0.0/8"],
                &["1.0.0.0/8"],
                &["fd00::/8"],
                2,
            ),
            (RangeEdit::Replace, &[], &[], &["10.0.0.0/8", "fd00::/8"], 0),
        ];
        for (how, given, added, removed, total) in cases {
            let (after, change) =
                edit(&config(), RangeList::Exclude, how, &nets(given)).expect("an edit");
            let expected = RangeChange {
                added: nets(added),
                removed: nets(removed),
                total,
            };
            assert_eq!(change, expected, "{how:?}");
            assert_eq!(after.exclude.len(), total);
        }
    }

    #[test]
    fn an_edit_that_is_not_possible_changes_nothing() {
        let absent = edit(
            &config(),
            RangeList::Exclude,
            RangeEdit::Remove,
            &nets(&["10.0.0.0/8", "1.0.0.0/8"]),
        );
        assert_eq!(absent, Err(RangeError::Absent(nets(&["1.0.0.0/8"]))));
        let everything = edit(
            &config(),
            RangeList::Include,
            RangeEdit::Add,
            &nets(&["1.0.0.0/8"]),
        );
        assert_eq!(everything, Err(RangeError::Everything));
    }
}
