//! Names of network interfaces, in the syntax of iptables.

use std::fmt;

use redirect_common::abi::INTERFACE_NAME;
use serde::{Serialize, Serializer};

use super::element::{ElementError, Fault};

/// The name of an interface. With `+` at its end it stands for all interfaces whose names begin so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface(pub String);

impl Interface {
    /// Whether the interface with this name is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('+') {
            Some(start) => name.starts_with(start),
            None => name == self.0,
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Interface {
    /// Writes the name as text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Parses a name. Blanks around it are dropped, as iptables does. A name is accepted if the kernel
/// accepts it for an interface (`dev_valid_name`), and if it is a single word in the text of a rule.
pub(crate) fn parse_interface(element: &str) -> Result<Interface, ElementError> {
    let name = element.trim_matches([' ', '\t']);
    let is_odd = |byte: u8| !byte.is_ascii_graphic() || b"/:!\"'\\".contains(&byte);
    if name.is_empty()
        || name.len() >= INTERFACE_NAME
        || name.starts_with('-')
        || name.bytes().any(is_odd)
    {
        return Err(ElementError::new(element, Fault::NotAnInterface));
    }
    Ok(Interface(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_accepted_as_iptables_accepts_them() {
        for text in [
            "eth0",
            " net1 ",
            "veth+",
            "+",
            "fifteen-letters",
            "a.b_c@1",
            "+x",
        ] {
            assert_eq!(
                parse_interface(text),
                Ok(Interface(text.trim().to_owned())),
                "{text}"
            );
        }
        for text in [
            " ",
            "sixteen-letters!",
            "sixteen-letters0",
            "a b",
            "a/b",
            "eth0:1",
            "!eth0",
            "-o",
            "é",
        ] {
            assert_eq!(
                parse_interface(text),
                Err(ElementError::new(text, Fault::NotAnInterface)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_plus_sign_at_the_end_is_a_wildcard() {
        for (pattern, name, expected) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth+", "eth", true),
            ("eth+", "eth01", true),
            ("eth+", "et", false),
            ("+", "lo", true),
            ("e+h", "eth", false),
        ] {
            assert_eq!(
                Interface(pattern.to_owned()).matches(name),
                expected,
                "{pattern} {name}"
            );
        }
    }
}
