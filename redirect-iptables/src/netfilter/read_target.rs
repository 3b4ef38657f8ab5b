//! The words of a rule's target, read.

use super::{
    model::{Bits, ConnmarkOp, Target},
    number,
};

/// Reads the words after `-j` or `-g`; `chain` makes the target from a chain's name.
pub(super) fn read_target(words: &[&str], chain: fn(String) -> Target) -> Target {
    let unknown = || Target::Unknown(format!("-j {}", words.join(" ")));
    let Some((&name, options)) = words.split_first() else {
        return unknown();
    };
    let read = match (name, options) {
        ("RETURN", []) => Some(Target::Return),
        ("ACCEPT", []) => Some(Target::Accept),
        ("DROP", []) | ("REJECT", _) => Some(Target::Drop),
        ("REDIRECT", _) => redirect(options),
        ("TPROXY", _) => tproxy(options),
        ("MARK", _) => mark(options).map(Target::Mark),
        ("CONNMARK", _) => connmark(options).map(Target::Connmark),
        ("CT", ["--zone", _]) | ("LOG" | "NFLOG" | "TRACE", _) => {
            Some(Target::Aside(words.join(" ")))
        }
        (name, []) => Some(chain(name.to_owned())),
        _ => None,
    };
    read.unwrap_or_else(unknown)
}

/// Reads `REDIRECT`. A range of ports is not understood, because the kernel chooses one. Random source ports do not
/// matter.
fn redirect(mut options: &[&str]) -> Option<Target> {
    let mut port = None;
    loop {
        options = match options {
            [] => return Some(Target::Redirect(port)),
            ["--to-ports" | "--to-port", value, rest @ ..] => {
                port = Some(value.parse().ok()?);
                rest
            }
            ["--random" | "--random-fully", rest @ ..] => rest,
            _ => return None,
        };
    }
}

fn tproxy(mut options: &[&str]) -> Option<Target> {
    let (mut port, mut mark) = (None, Bits { value: 0, mask: 0 });
    loop {
        options = match options {
            [] => return Some(Target::Tproxy(port?, mark)),
            ["--on-port", value, rest @ ..] => {
                port = Some(value.parse().ok()?);
                rest
            }
            ["--tproxy-mark", value, rest @ ..] => {
                mark = number::bits(value)?;
                rest
            }
            ["--on-ip", "0.0.0.0" | "::", rest @ ..] => rest,
            _ => return None,
        };
    }
}

fn mark(options: &[&str]) -> Option<Bits> {
    match options {
        ["--set-xmark", value] => number::bits(value),
        // Clears the bits of the value as well as those of the mask.
        ["--set-mark", value] => number::bits(value).map(|Bits { value, mask }| Bits {
            value,
            mask: mask | value,
        }),
        _ => None,
    }
}

fn connmark(options: &[&str]) -> Option<ConnmarkOp> {
    let [operation, masks @ ..] = options else {
        return None;
    };
    let (packet, connection) = match masks {
        [] => (u32::MAX, u32::MAX),
        ["--mask", both] => (number::number(both)?, number::number(both)?),
        ["--nfmask", packet, "--ctmask", connection] => {
            (number::number(packet)?, number::number(connection)?)
        }
        _ => return mark(options).map(ConnmarkOp::Set),
    };
    match *operation {
        "--save-mark" => Some(ConnmarkOp::Save { packet, connection }),
        "--restore-mark" => Some(ConnmarkOp::Restore { packet, connection }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u32 = u32::MAX;

    #[test]
    fn targets_are_read_from_saved_rules_and_from_istios_rules() {
        let bits = |value, mask| Bits { value, mask };
        let cases = [
            ("RETURN", Target::Return),
            ("REDIRECT --to-ports 15001", Target::Redirect(Some(15001))),
            ("REDIRECT --to-port 15053", Target::Redirect(Some(15053))),
            ("REDIRECT", Target::Redirect(None)),
            (
                "REDIRECT --to-ports 1 --random-fully",
                Target::Redirect(Some(1)),
            ),
            (
                "TPROXY --on-port 15006 --on-ip 0.0.0.0 --tproxy-mark 0x539/0xffffffff",
                Target::Tproxy(15006, bits(1337, ALL)),
            ),
            (
                "MARK --set-xmark 0x539/0xffffffff",
                Target::Mark(bits(1337, ALL)),
            ),
            ("MARK --set-mark 1337", Target::Mark(bits(1337, ALL))),
            ("MARK --set-mark 5/2", Target::Mark(bits(5, 7))),
            (
                "CONNMARK --save-mark",
                Target::Connmark(ConnmarkOp::Save {
                    packet: ALL,
                    connection: ALL,
                }),
            ),
            (
                "CONNMARK --restore-mark --nfmask 0xff --ctmask 0xffffffff",
                Target::Connmark(ConnmarkOp::Restore {
                    packet: 0xff,
                    connection: ALL,
                }),
            ),
            (
                "CONNMARK --set-xmark 0x1/0x3",
                Target::Connmark(ConnmarkOp::Set(bits(1, 3))),
            ),
            ("CT --zone 2", Target::Aside("CT --zone 2".to_owned())),
            ("ISTIO_OUTPUT", Target::Jump("ISTIO_OUTPUT".to_owned())),
        ];
        for (text, expected) in cases {
            let words: Vec<_> = text.split(' ').collect();
            assert_eq!(read_target(&words, Target::Jump), expected, "{text}");
        }
    }

    #[test]
    fn other_targets_are_kept_as_text() {
        for text in [
            "DNAT --to-destination 127.0.0.1:15053",
            "CT --notrack",
            "REDIRECT --to-ports 80-90",
            "TPROXY --on-port 15006 --on-ip 10.0.0.1 --tproxy-mark 0x1",
            "MARK --or-mark 0x1",
            "CONNMARK --and-mark 0x1",
            "ISTIO_OUTPUT --nonsense",
        ] {
            let words: Vec<_> = text.split(' ').collect();
            let expected = Target::Unknown(format!("-j {text}"));
            assert_eq!(read_target(&words, Target::Jump), expected, "{text}");
        }
    }
}
