//! Numbers in the notation of iptables.

use redirect_user::config::{PortRange, parse_port_range};

use super::model::{Bits, IdRange};

/// Decimal, or hexadecimal with `0x`.
pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `VALUE[/MASK]`; without a mask all bits count.
pub(super) fn bits(text: &str) -> Option<Bits> {
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (number(value)?, number(mask)?),
        None => (number(text)?, u32::MAX),
    };
    Some(Bits { value, mask })
}

/// `ID` or `ID-ID`.
pub(super) fn ids(text: &str) -> Option<IdRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(IdRange { first, last })
}

/// Ports and ranges between commas, in order.
pub(super) fn ports(text: &str) -> Option<Vec<PortRange>> {
    let mut ports = text
        .split(',')
        .map(|element| parse_port_range(element).ok())
        .collect::<Option<Vec<_>>>()?;
    ports.sort_unstable();
    Some(ports)
}
