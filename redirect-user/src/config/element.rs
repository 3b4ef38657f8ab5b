//! The elements of lists, and the faults that an element can have.
//!
//! Lists have `istio-iptables`' syntax: split at commas, empty elements dropped, nothing trimmed,
//! nothing sorted, duplicates kept.

use std::fmt;

use thiserror::Error;

/// A text in double quotes, with control characters and double quotes escaped.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\"{}\"",
            self.0.escape_debug().to_string().replace("\\'", "'")
        )
    }
}

/// An element that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{} {fault}", Quoted(.element))]
pub struct ElementError {
    /// The element as written.
    pub element: String,
    /// The fault of the element.
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

/// The fault of an element, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// `*` beside other elements, or in a list that has no wildcard.
    #[error("is a wildcard only as the whole value of -i or -b: list the elements instead")]
    Wildcard,
    /// A blank that Istio does not trim.
    #[error("contains a blank: remove it")]
    Blank,
    /// An address without a length.
    #[error("has no prefix length: write {0}")]
    BareAddress(String),
    /// An address with a zone, which no iptables rule can have.
    #[error(
        "has a zone, which a range cannot have: remove % and the text after it, as in fe80::/64"
    )]
    Zone,
    /// Text before the slash that is not an address.
    #[error("is not an address range: write ADDRESS/LENGTH, such as 10.0.0.0/8 or fd00::/8")]
    NotAPrefix,
    /// A prefix length that is not a number, or too long for the address.
    #[error("has a bad prefix length: write a number from 0 to {0}")]
    PrefixLength(u8),
    /// Text that is not a number.
    #[error("is not a port: write a number from 0 to 65535, or a range such as 8000:9000")]
    NotAPort,
    /// The name of a service instead of its port.
    #[error("is a service name: write the port's number")]
    ServiceName,
    /// A number above 65535.
    #[error("is above 65535: write a number from 0 to 65535")]
    PortTooLarge,
    /// A number with leading zeros, which iptables would read as octal or hexadecimal.
    #[error(
        "starts with a zero, which iptables reads as octal or hexadecimal: write it in decimal"
    )]
    LeadingZero,
    /// A range whose end is below its start, such as `9000:8000`.
    #[error("is a range that ends before it starts: swap the two ports")]
    Backwards,
    /// A range or zero as the port that the proxy listens on.
    #[error("is not a port to listen on: write a number from 1 to 65535")]
    NotAListener,
    /// A range as a single port.
    #[error("is not a single port: write a number from 0 to 65535")]
    NotSingle,
    /// Text that is neither a gid nor the name of a group.
    #[error(
        "is neither a group of this system nor a numeric id: write a number from 0 to 4294967294"
    )]
    NotAGroup,
    /// Text that is not an IPv4 loopback range.
    #[error(
        "is not an IPv4 loopback range: write ADDRESS/LENGTH with an address in 127.0.0.0/8 and a length from 8 to 32"
    )]
    NotLoopback,
    /// Text that is not an IP address.
    #[error("is not an IP address: write one such as 10.96.0.10 or fd00::a")]
    NotAnAddress,
    /// Text that is not a name that an interface can have.
    #[error(
        "is not an interface's name: write at most 15 letters, digits and signs other than / : ! \" ' \\, with + at the end to match every name that begins with it"
    )]
    NotAnInterface,
    /// Text that is neither a uid nor a gid.
    #[error("is not a numeric id: write a number from 0 to 4294967294")]
    NotAnId,
}

/// The elements of a list. Empty elements are dropped.
pub(crate) fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|element| !element.is_empty())
}

/// Parses every element of a list, and returns all values or all errors.
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
