//! What can be wrong with one element of a list.
//!
//! Lists have `istio-iptables`' syntax: split at commas, empty elements dropped, nothing trimmed,
//! nothing sorted, duplicates kept.

use std::fmt;

use thiserror::Error;

/// A text in double quotes, with control characters and quotes escaped.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_debug())
    }
}

/// An element that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{} {fault}", Quoted(.element))]
pub struct ElementError {
    /// The element as written.
    pub element: String,
    /// What is wrong with it.
    pub fault: Fault,
}

impl ElementError {
    pub(crate) fn new(element: &str, fault: Fault) -> Self {
        Self {
            element: element.to_owned(),
            fault,
        }
    }
}

/// What is wrong with an element, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// `*` beside other elements, or where no wildcard exists.
    #[error("is a wildcard only as the whole value of -i or -b: list the elements instead")]
    Wildcard,
    /// A blank where Istio trims none.
    #[error("contains a blank: remove it")]
    Blank,
    /// An address without a length.
    #[error("has no prefix length: write {0}")]
    BareAddress(String),
    /// An address with a zone, which no rule can have.
    #[error(
        "has a zone, which a range cannot have: leave out % and what follows it, such as in fe80::/64"
    )]
    Zone,
    /// Text before the slash that is no address.
    #[error("is not an address range: write ADDRESS/LENGTH, such as 10.0.0.0/8 or fd00::/8")]
    NotAPrefix,
    /// A length that is no number, or too long for the address.
    #[error("has a bad prefix length: write a number from 0 to {0}")]
    PrefixLength(u8),
    /// No number at all.
    #[error("is not a port: write a number from 0 to 65535, or a range such as 8000:9000")]
    NotAPort,
    /// A service name.
    #[error("is a service name: write the port's number")]
    ServiceName,
    /// Above 65535.
    #[error("is above 65535: write a number from 0 to 65535")]
    PortTooLarge,
    /// iptables would read it as octal or hexadecimal.
    #[error(
        "starts with a zero, which iptables reads as octal or hexadecimal: write it in decimal"
    )]
    LeadingZero,
    /// `9000:8000`.
    #[error("is a range that ends before it starts: swap the two ports")]
    Backwards,
    /// A range or zero where one port to listen on is needed.
    #[error("is not a port to listen on: write a number from 1 to 65535")]
    NotAListener,
    /// A range where one port is needed.
    #[error("is not a single port: write a number from 0 to 65535")]
    NotSingle,
    /// Neither a gid nor a group's name.
    #[error(
        "is neither a group of this system nor a numeric id: write a number from 0 to 4294967294"
    )]
    NotAGroup,
    /// No IPv4 loopback range.
    #[error(
        "is not an IPv4 loopback range: write ADDRESS/LENGTH with an address in 127.0.0.0/8 and a length from 8 to 32"
    )]
    NotLoopback,
    /// No IP address.
    #[error("is not an IP address: write one such as 10.96.0.10 or fd00::a")]
    NotAnAddress,
    /// No name that an interface can have.
    #[error(
        "is not an interface's name: write at most 15 letters, digits and signs other than / : ! \" ' \\, with + at the end for all that begin so"
    )]
    NotAnInterface,
    /// Neither a uid nor a gid.
    #[error("is not a numeric id: write a number from 0 to 4294967294")]
    NotAnId,
}

/// The elements of a list.
pub(crate) fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|element| !element.is_empty())
}

/// Every element of a list, parsed; or every error.
pub(crate) fn parse_list<T>(
    list: &str,
    parse: impl Fn(&str) -> Result<T, ElementError>,
) -> Result<Vec<T>, Vec<ElementError>> {
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for element in split(list) {
        match parse(element) {
            Ok(value) => values.push(value),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(values)
    } else {
        Err(errors)
    }
}
