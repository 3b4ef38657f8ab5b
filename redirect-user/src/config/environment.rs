//! The variables that a process was started with, as the caller hands them in.

use std::{collections::BTreeMap, ffi::OsString};

/// Variables by name. Only those that are an option are ever looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The value of a variable; set but empty is a value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

impl From<BTreeMap<String, String>> for Environment {
    fn from(variables: BTreeMap<String, String>) -> Self {
        Self { variables }
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(iter: I) -> Self {
        Self {
            variables: iter
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
        }
    }
}

impl Environment {
    /// From the form of [`std::env::vars_os`]; a name or value that is not UTF-8 is left out, as
    /// no option can be written with one.
    #[must_use]
    pub fn from_os(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }
}
