//! The syntax of annotations.

use redirect_user::config::parse_cidr;

/// The syntax of an annotation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Syntax {
    /// `REDIRECT` or `TPROXY`.
    Mode,
    /// Address ranges, without spaces.
    Cidrs,
    /// Address ranges, without spaces; or `*`.
    CidrsOrAny,
    /// Ports, with spaces around each; or `*`.
    PortsOrAny,
    /// Names of interfaces, with spaces around each.
    Interfaces,
}

impl Syntax {
    /// Checks a value. The error names the element, and the remedy.
    pub(super) fn check(self, value: &str) -> Result<(), String> {
        match self {
            Self::Mode => match value {
                "REDIRECT" | "TPROXY" => Ok(()),
                _ => Err("write REDIRECT, TPROXY or NONE".to_owned()),
            },
            Self::CidrsOrAny | Self::PortsOrAny if value == "*" => Ok(()),
            Self::Cidrs | Self::CidrsOrAny => each(value, |range| {
                parse_cidr(range)
                    .map(drop)
                    .map_err(|error| error.to_string())
            }),
            Self::PortsOrAny => each(value.trim(), |port| {
                if is_port(port.trim()) {
                    return Ok(());
                }
                let port = port.escape_debug();
                Err(format!(
                    "\"{port}\" is not a port: write a number from 0 to 65535"
                ))
            }),
            Self::Interfaces => each(value, |name| {
                if is_interface(name.trim()) {
                    return Ok(());
                }
                let name = name.escape_debug();
                Err(format!(
                    "\"{name}\" is not an interface's name: write a letter, and up to 14 letters, digits, '_', '-' and '.'"
                ))
            }),
        }
    }
}

/// Checks the elements of a list with commas; an empty list has none.
fn each(list: &str, check: impl Fn(&str) -> Result<(), String>) -> Result<(), String> {
    if list.is_empty() {
        return Ok(());
    }
    list.split(',').try_for_each(check)
}

/// Equivalent of Go's `strconv.ParseUint(_, 10, 16)`.
fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Length limit of `pkg/util/net/ip.go`: `IFNAMSIZ`, without the terminating zero.
fn is_interface(name: &str) -> bool {
    let is_rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.len() <= 15
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(is_rest)
}
