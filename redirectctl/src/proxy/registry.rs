//! The registered destinations of mode `registry-only`.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use redirect_user::config::{entries, parse_cidr};
use thiserror::Error;

/// Registered destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    entries: Vec<Entry>,
}

/// An address or a range, with one port or every port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    range: IpNet,
    port: Option<u16>,
}

/// A line that is not an entry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "parse registry: line {line}: \"{}\" is not a destination: write ADDRESS, ADDRESS:PORT, RANGE \
     or RANGE:PORT, IPv6 with a port in brackets",
    .entry.escape_debug()
)]
pub struct RegistryError {
    /// The line, counted from 1.
    pub line: usize,
    /// The text of the line.
    pub entry: String,
}

impl Registry {
    /// Parses one entry a line: `ADDRESS`, `ADDRESS:PORT`, `RANGE`, `RANGE:PORT`, `[IPV6]:PORT` or
    /// `[IPV6RANGE]:PORT`. An entry without a port stands for every port. `#` starts a comment.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let entries = entries(text).map(|(line, entry)| {
            parse_entry(entry).ok_or_else(|| RegistryError {
                line,
                entry: entry.to_owned(),
            })
        });
        Ok(Self {
            entries: entries.collect::<Result<_, _>>()?,
        })
    }

    /// Whether a destination is registered.
    #[must_use]
    pub fn contains(&self, destination: SocketAddr) -> bool {
        let address = destination.ip().to_canonical();
        self.entries.iter().any(|entry| {
            entry.port.is_none_or(|port| port == destination.port())
                && entry.range.contains(&address)
        })
    }

    /// The number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn parse_entry(text: &str) -> Option<Entry> {
    if let Some(rest) = text.strip_prefix('[') {
        let (range, port) = rest.split_once(']')?;
        let port = if port.is_empty() {
            None
        } else {
            Some(parse_port(port.strip_prefix(':')?)?)
        };
        return Some(Entry {
            range: parse_range(range)?,
            port,
        });
    }
    // The text after the last colon is a port, unless the whole text is an IPv6 address or range.
    if let Some(range) = parse_range(text) {
        return Some(Entry { range, port: None });
    }
    let (range, port) = text.rsplit_once(':')?;
    // "fd00::1:80x" must not become fd00::1: a port after a bare IPv6 address needs brackets.
    let range = parse_range(range).filter(|range| range.addr().is_ipv4() || text.contains('/'))?;
    Some(Entry {
        range,
        port: Some(parse_port(port)?),
    })
}

fn parse_range(text: &str) -> Option<IpNet> {
    let range = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => parse_cidr(text).ok()?,
    };
    Some(unmapped(range).unwrap_or(range))
}

/// An IPv4-mapped range as IPv4: destinations are compared in that form.
fn unmapped(range: IpNet) -> Option<IpNet> {
    let length = range
        .prefix_len()
        .checked_sub(96)
        .filter(|_| range.addr().is_ipv6())?;
    let address = range.addr().to_canonical();
    IpNet::new(address, length)
        .ok()
        .filter(|_| address.is_ipv4())
}

fn parse_port(text: &str) -> Option<u16> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    type Destinations = &'static [&'static str];

    #[test]
    fn entries_match_their_destinations() {
        let cases: [(&str, Destinations, Destinations); 10] = [
            (
                "10.0.0.1",
                &["10.0.0.1:1", "[::ffff:10.0.0.1]:2"],
                &["10.0.0.2:1"],
            ),
            (
                "10.0.0.1:80",
                &["10.0.0.1:80"],
                &["10.0.0.1:81", "10.0.0.2:80"],
            ),
            ("10.0.0.9/8", &["10.255.0.1:1"], &["11.0.0.1:1"]),
            ("10.0.0.0/8:80", &["10.1.2.3:80"], &["10.1.2.3:81"]),
            ("fd00::1", &["[fd00::1]:9"], &["[fd00::2]:9"]),
            ("[fd00::1]:80", &["[fd00::1]:80"], &["[fd00::1]:81"]),
            ("[fd00::1]", &["[fd00::1]:81"], &["10.0.0.1:81"]),
            ("fd00::/64:443", &["[fd00::5]:443"], &["[fd00::5]:80"]),
            (
                "[fd00::/64]:443",
                &["[fd00::5]:443"],
                &["[fd00:0:0:1::5]:443"],
            ),
            ("::ffff:10.0.0.0/104", &["10.1.1.1:1"], &["11.1.1.1:1"]),
        ];
        for (text, inside, outside) in cases {
            let registry = Registry::parse(text).expect(text);
            assert_eq!(registry.len(), 1);
            for addr in inside {
                assert!(
                    registry.contains(addr.parse().expect(addr)),
                    "{text} has {addr}"
                );
            }
            for addr in outside {
                assert!(
                    !registry.contains(addr.parse().expect(addr)),
                    "{text} has not {addr}"
                );
            }
        }
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_and_errors_have_a_line() {
        let text = "# ours\n\n 10.0.0.1:80 # web\n";
        assert_eq!(Registry::parse(text).expect("valid").len(), 1);
        assert!(Registry::parse("").expect("valid").is_empty());
        let bad = [
            "nonsense",
            "10.0.0.1:",
            "10.0.0.1:70000",
            "10.0.0.1:+1",
            "10.0.0.0/33",
            "[fd00::1",
            "[fd00::1]80",
            "[fd00::1]:",
            "fd00::1:80x",
            "fd00:0:0:0:0:0:0:1:80",
        ];
        for text in bad {
            let error = Registry::parse(&format!("\n{text}")).expect_err(text);
            assert_eq!(
                error,
                RegistryError {
                    line: 2,
                    entry: text.to_owned()
                }
            );
        }
        assert_eq!(
            Registry::parse("x").expect_err("bad").to_string(),
            "parse registry: line 1: \"x\" is not a destination: write ADDRESS, ADDRESS:PORT, \
             RANGE or RANGE:PORT, IPv6 with a port in brackets"
        );
    }
}
