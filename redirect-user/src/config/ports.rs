//! Ports and ranges of ports, in the syntax of iptables' `--dport`.

use std::fmt;

use serde::{Serialize, Serializer};

use super::element::{ElementError, Fault};

/// A range of ports, from `first` to `last`. A single port is a range too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port; the same as `first` for a single port.
    pub last: u16,
}

impl PortRange {
    /// Creates the range of one port.
    #[must_use]
    pub const fn single(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// Whether a port is in the range.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// The ports of the range.
    pub fn ports(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}:{}", self.first, self.last)
        }
    }
}

impl Serialize for PortRange {
    /// Writes the range as text, in the syntax of the flags.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Parses a port or range: `80`, `8000:9000`, `8000:` (to 65535) or `:9000` (from 0), with blanks
/// around it. iptables accepts exactly these in the rules that `istio-iptables` writes.
pub fn parse_port_range(element: &str) -> Result<PortRange, ElementError> {
    let fault = |fault| ElementError::new(element, fault);
    let text = element.trim_matches([' ', '\t']);
    let Some((first, last)) = text.split_once(':') else {
        return parse_port(text).map(PortRange::single).map_err(fault);
    };
    let first = if first.is_empty() {
        0
    } else {
        parse_port(first).map_err(fault)?
    };
    let last = if last.is_empty() {
        u16::MAX
    } else {
        parse_port(last).map_err(fault)?
    };
    if first > last {
        return Err(fault(Fault::Backwards));
    }
    Ok(PortRange { first, last })
}

/// Parses a single port, with blanks around it.
pub(crate) fn parse_single_port(element: &str) -> Result<u16, ElementError> {
    parse_port(element.trim_matches([' ', '\t'])).map_err(|fault| {
        let fault = if fault == Fault::NotAPort {
            Fault::NotSingle
        } else {
            fault
        };
        ElementError::new(element, fault)
    })
}

/// Parses a port that a proxy listens on.
pub(crate) fn parse_listener(element: &str) -> Result<u16, ElementError> {
    match parse_single_port(element) {
        Err(error) if error.fault != Fault::NotSingle => Err(error),
        Ok(0) | Err(_) => Err(ElementError::new(element, Fault::NotAListener)),
        Ok(port) => Ok(port),
    }
}

fn parse_port(text: &str) -> Result<u16, Fault> {
    if text == "*" {
        return Err(Fault::Wildcard);
    }
    if text.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Err(Fault::ServiceName);
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(Fault::LeadingZero);
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::NotAPort);
    }
    text.parse().or(Err(Fault::PortTooLarge))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_parsed_as_iptables_parses_them() {
        let cases = [
            ("80", 80, 80),
            ("0", 0, 0),
            ("65535", 65535, 65535),
            (" 80 ", 80, 80),
            ("\t443", 443, 443),
            ("8000:9000", 8000, 9000),
            ("8000:", 8000, 65535),
            (":9000", 0, 9000),
            ("7:7", 7, 7),
        ];
        for (text, first, last) in cases {
            assert_eq!(
                parse_port_range(text),
                Ok(PortRange { first, last }),
                "{text}"
            );
        }
    }

    #[test]
    fn ports_that_are_refused_say_why() {
        let cases = [
            ("70000", Fault::PortTooLarge),
            ("99999999999999999999", Fault::PortTooLarge),
            ("http", Fault::ServiceName),
            ("*", Fault::Wildcard),
            ("-1", Fault::NotAPort),
            ("+80", Fault::NotAPort),
            ("80 90", Fault::NotAPort),
            ("80-90", Fault::NotAPort),
            ("!80", Fault::NotAPort),
            (" ", Fault::NotAPort),
            ("9000:8000", Fault::Backwards),
            ("1:2:3", Fault::NotAPort),
            ("8000 : 9000", Fault::NotAPort),
            ("010", Fault::LeadingZero),
            ("0x50", Fault::LeadingZero),
            ("８０", Fault::NotAPort),
        ];
        for (text, fault) in cases {
            assert_eq!(
                parse_port_range(text),
                Err(ElementError::new(text, fault)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_listening_port_is_a_single_port_above_zero() {
        assert_eq!(parse_listener(" 15001 "), Ok(15001));
        for text in ["0", "1:2", "80:"] {
            assert_eq!(
                parse_listener(text).expect_err(text).fault,
                Fault::NotAListener,
                "{text}"
            );
        }
        assert_eq!(parse_single_port("0"), Ok(0));
        assert_eq!(
            parse_single_port("1:2").expect_err("range").fault,
            Fault::NotSingle
        );
    }
}
