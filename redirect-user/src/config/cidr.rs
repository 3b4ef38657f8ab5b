//! Address ranges: a single one, a list on the command line, or a file of them.
//!
//! A range keeps the host bits it was written with, because "is loopback" is a question about the
//! written address. An IPv4-mapped range counts as IPv6.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use thiserror::Error;

use super::element::{ElementError, Fault, split};

/// The most errors that a message shows.
const SHOWN: usize = 10;

/// The errors in a list of ranges.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct CidrListError {
    /// Every bad element, in the order of the list.
    pub errors: Vec<LineError>,
}

/// One bad element of a list of ranges.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct LineError {
    /// The line that contains the element, counted from 1; `None` for an argument.
    pub line: Option<usize>,
    /// The element and its fault.
    pub error: ElementError,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "{}", self.error)
    }
}

impl fmt::Display for CidrListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parse ranges: ")?;
        for (index, error) in self.errors.iter().take(SHOWN).enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "; " })?;
        }
        match self.errors.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Parses one range exactly as `istio-iptables` does: no blanks, no zone, a length in decimal.
pub fn parse_cidr(element: &str) -> Result<IpNet, ElementError> {
    prefix(element).map_err(|fault| ElementError::new(element, fault))
}

fn prefix(element: &str) -> Result<IpNet, Fault> {
    if element == "*" {
        return Err(Fault::Wildcard);
    }
    if element.contains(char::is_whitespace) {
        return Err(Fault::Blank);
    }
    if element.contains('%') {
        return Err(Fault::Zone);
    }
    let Some((address, length)) = element.split_once('/') else {
        return Err(match element.parse::<IpAddr>() {
            Ok(address) => Fault::BareAddress(IpNet::from(address).to_string()),
            Err(_) => Fault::NotAPrefix,
        });
    };
    let address: IpAddr = address.parse().or(Err(Fault::NotAPrefix))?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let decimal = length.bytes().all(|byte| byte.is_ascii_digit())
        && (length == "0" || !length.starts_with('0'));
    let length = length
        .parse()
        .ok()
        .filter(|_| decimal)
        .ok_or(Fault::PrefixLength(longest))?;
    IpNet::new(address, length).or(Err(Fault::PrefixLength(longest)))
}

/// Parses the ranges of a command line. Each argument may be a comma-separated list.
pub fn parse_cidr_arguments<S: AsRef<str>>(arguments: &[S]) -> Result<Vec<IpNet>, CidrListError> {
    let elements = arguments
        .iter()
        .flat_map(|argument| split(argument.as_ref()));
    collect(elements.map(|element| (None, element)))
}

/// Parses the ranges of a file, one per line. `#` starts a comment; blank lines and blanks around a
/// range are skipped.
pub fn parse_cidr_file(text: &str) -> Result<Vec<IpNet>, CidrListError> {
    collect(entries(text).map(|(line, entry)| (Some(line), entry)))
}

/// The lines of a file that are not blank after comments are cut, with their numbers from 1.
pub fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().zip(1..).filter_map(|(line, number)| {
        let entry = line.split_once('#').map_or(line, |(entry, _)| entry).trim();
        (!entry.is_empty()).then_some((number, entry))
    })
}

fn collect<S: AsRef<str>>(
    elements: impl Iterator<Item = (Option<usize>, S)>,
) -> Result<Vec<IpNet>, CidrListError> {
    let (mut ranges, mut errors) = (Vec::new(), Vec::new());
    for (line, element) in elements {
        match parse_cidr(element.as_ref()) {
            Ok(range) => ranges.push(range),
            Err(error) => errors.push(LineError { line, error }),
        }
    }
    if errors.is_empty() {
        Ok(ranges)
    } else {
        Err(CidrListError { errors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_keep_their_host_bits() {
        for text in [
            "10.0.0.0/8",
            "127.0.0.1/8",
            "0.0.0.0/0",
            "fd00::1/64",
            "::/0",
            "1.2.3.4/32",
        ] {
            assert_eq!(parse_cidr(text).expect(text).to_string(), text);
        }
        assert!(matches!(parse_cidr("::ffff:1.2.3.4/120"), Ok(IpNet::V6(_))));
    }

    #[test]
    fn ranges_that_are_refused_say_why() {
        let cases = [
            ("10.0.0.1", Fault::BareAddress("10.0.0.1/32".to_owned())),
            ("fd00::1", Fault::BareAddress("fd00::1/128".to_owned())),
            ("*", Fault::Wildcard),
            (" 10.0.0.0/8", Fault::Blank),
            ("10.0.0.0 /8", Fault::Blank),
            (" *", Fault::Blank),
            ("10.0.0/8", Fault::NotAPrefix),
            ("010.0.0.0/8", Fault::NotAPrefix),
            ("fe80::1%eth0/64", Fault::Zone),
            ("fe80::1%eth0", Fault::Zone),
            ("example.com", Fault::NotAPrefix),
            ("/8", Fault::NotAPrefix),
            ("10.0.0.0/33", Fault::PrefixLength(32)),
            ("10.0.0.0/", Fault::PrefixLength(32)),
            ("10.0.0.0/+8", Fault::PrefixLength(32)),
            ("10.0.0.0/08", Fault::PrefixLength(32)),
            ("10.0.0.0/8/8", Fault::PrefixLength(32)),
            ("10.0.0.0/255.0.0.0", Fault::PrefixLength(32)),
            ("fd00::/129", Fault::PrefixLength(128)),
            ("fd00::/999", Fault::PrefixLength(128)),
        ];
        for (text, fault) in cases {
            assert_eq!(
                parse_cidr(text),
                Err(ElementError::new(text, fault)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_file_may_have_comments_and_blank_lines() {
        let text = "# ours\n10.0.0.0/8\n\n  fd00::/8\t# theirs\r\n#\n192.168.0.0/16";
        let ranges = parse_cidr_file(text).expect("valid");
        let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.0.0.0/8", "fd00::/8", "192.168.0.0/16"]);
        assert_eq!(parse_cidr_file(""), Ok(Vec::new()));
    }

    #[test]
    fn errors_in_a_file_name_line_and_element() {
        let error = parse_cidr_file("10.0.0.0/8\n# fine\n10.0.0.1\nbogus\n").expect_err("bad");
        assert_eq!(
            error.to_string(),
            "parse ranges: line 3: \"10.0.0.1\" has no prefix length: write 10.0.0.1/32; line 4: \
             \"bogus\" is not an address range: write ADDRESS/LENGTH, such as 10.0.0.0/8 or \
             fd00::/8"
        );
        let error = parse_cidr_file(&"x\n".repeat(25)).expect_err("bad");
        assert!(error.to_string().ends_with("; and 15 more"), "{error}");
    }

    #[test]
    fn arguments_may_be_comma_separated_lists() {
        let ranges = parse_cidr_arguments(&["10.0.0.0/8,,fd00::/8", "1.2.3.4/32"]).expect("valid");
        assert_eq!(ranges.len(), 3);
        let error = parse_cidr_arguments(&["10.0.0.0/8, fd00::/8"]).expect_err("a blank");
        assert_eq!(
            error.to_string(),
            "parse ranges: \" fd00::/8\" contains a blank: remove it"
        );
    }

    #[test]
    fn a_large_file_is_parsed_completely() {
        let range = |n: u32| format!("10.{}.{}.{}/32", n >> 16, n >> 8 & 255, n & 255);
        let text = (0..100_000_u32).map(range).collect::<Vec<_>>().join("\n");
        assert_eq!(parse_cidr_file(&text).expect("valid").len(), 100_000);
    }
}
