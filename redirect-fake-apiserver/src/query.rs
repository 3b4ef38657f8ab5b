// SPDX-License-Identifier: MIT OR Apache-2.0
//! The query of a request.

/// A query string. Values are not decoded: only the field selector is encoded, and its reader expects that.
pub(crate) struct Query<'a>(pub(crate) &'a str);

impl Query<'_> {
    /// The value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    }
}
