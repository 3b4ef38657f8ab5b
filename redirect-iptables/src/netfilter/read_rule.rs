//! The words of one rule, read to its tests and target.

use std::net::IpAddr;

use ipnet::IpNet;
use redirect_user::config::{Interface, PortRange};

use super::{
    error::Fault,
    model::{Match, Protocol, Target, Test},
    number,
    read_target::read_target,
};
use crate::rules::Family;

/// Reads the words after the chain.
pub(super) fn read_rule(family: Family, words: &[&str]) -> Result<(Vec<Test>, Target), Fault> {
    let mut reader = RuleReader {
        family,
        rest: words,
        module: "",
        negated: false,
        tests: Vec::new(),
    };
    let target = loop {
        let Some(word) = reader.take() else {
            break Target::Aside(String::new());
        };
        match word {
            "!" => reader.negated = true,
            "-j" | "--jump" => break read_target(reader.rest, Target::Jump),
            "-g" | "--goto" => break read_target(reader.rest, Target::Goto),
            "-m" | "--match" => reader.read_module(),
            _ => reader.read_option(word)?,
        }
    };
    Ok((reader.tests, target))
}

struct RuleReader<'w> {
    family: Family,
    rest: &'w [&'w str],
    /// The match module that the next options belong to.
    module: &'w str,
    /// Whether the last word was `!`.
    negated: bool,
    tests: Vec<Test>,
}

/// The modules with options that are understood, though maybe not all.
const MODULES: [&str; 9] = [
    "tcp",
    "udp",
    "multiport",
    "owner",
    "conntrack",
    "state",
    "mark",
    "connmark",
    "comment",
];

/// The states of a connection that are understood.
const STATES: [&str; 5] = ["NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"];

impl<'w> RuleReader<'w> {
    fn take(&mut self) -> Option<&'w str> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// Takes the words before the next one for which `stop` holds.
    fn take_until(&mut self, stop: impl Fn(&str) -> bool) -> Vec<&'w str> {
        let end = self.rest.iter().position(|word| stop(word));
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken.to_vec()
    }

    fn read_module(&mut self) {
        let name = self.take().unwrap_or_default();
        self.module = name;
        if !MODULES.contains(&name) {
            let words = self.take_until(|word| ["-m", "-j", "-g"].contains(&word));
            self.push_unknown(&[&["-m", name], words.as_slice()].concat());
        }
    }

    /// Adds a test that is not understood, with the `!` before it.
    fn push_unknown(&mut self, words: &[&str]) {
        let not = if self.negated { "! " } else { "" };
        let text = format!("{not}{}", words.join(" "));
        self.negated = false;
        self.push(Match::Unknown(text));
    }

    fn push(&mut self, matches: Match) {
        self.tests.push(Test {
            negated: std::mem::take(&mut self.negated),
            matches,
        });
    }

    fn read_option(&mut self, word: &'w str) -> Result<(), Fault> {
        if word == "--suppl-groups" {
            self.read_supplementary_groups();
            return Ok(());
        }
        if !is_understood(word, self.module) {
            let values = self.take_until(|word| word == "!" || word.starts_with('-'));
            self.push_unknown(&[&[word], values.as_slice()].concat());
            return Ok(());
        }
        let value = self.take().unwrap_or_default();
        if word == "--comment" {
            return Ok(());
        }
        match self.value(word, value)? {
            Some(matches) if is_always(&matches) => {
                // Negated, such a condition never holds, and no real text has it.
                if self.negated {
                    self.push_unknown(&[word, value]);
                }
            }
            Some(matches) => self.push(matches),
            None => self.push_unknown(&[word, value]),
        }
        Ok(())
    }

    /// Makes tests of the group unknown: with this option the owner's supplementary groups count, and they are not
    /// known.
    fn read_supplementary_groups(&mut self) {
        for test in &mut self.tests {
            if let Match::Gid(ids) = test.matches {
                let not = if test.negated { "! " } else { "" };
                let text = format!("{not}--gid-owner {}-{} --suppl-groups", ids.first, ids.last);
                test.negated = false;
                test.matches = Match::Unknown(text);
            }
        }
    }

    /// The condition of an option; `None` if the value is not understood.
    fn value(&self, option: &str, value: &str) -> Result<Option<Match>, Fault> {
        Ok(match option {
            "-p" | "--protocol" | "--proto" => Some(Match::Protocol(protocol(value))),
            "-s" | "--source" | "--src" => self.net(value)?.map(Match::Source),
            "-d" | "--destination" | "--dst" => self.net(value)?.map(Match::Destination),
            "-i" | "--in-interface" => Some(Match::In(Interface(value.to_owned()))),
            "-o" | "--out-interface" => Some(Match::Out(Interface(value.to_owned()))),
            "--sport" | "--source-port" | "--sports" | "--source-ports" => {
                number::ports(value).map(Match::SourcePort)
            }
            "--dport" | "--destination-port" | "--dports" | "--destination-ports" => {
                number::ports(value).map(Match::DestinationPort)
            }
            "--uid-owner" => number::ids(value).map(Match::Uid),
            "--gid-owner" => number::ids(value).map(Match::Gid),
            "--ctstate" | "--state" => states(value).map(Match::State),
            "--mark" if self.module == "connmark" => number::bits(value).map(Match::Connmark),
            "--mark" => number::bits(value).map(Match::Mark),
            _ => None,
        })
    }

    /// An address or range of this family, without host bits.
    fn net(&self, text: &str) -> Result<Option<IpNet>, Fault> {
        let net = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match net {
            Ok(net) if !self.family.has(&net) => Err(Fault::OtherFamily(net, self.family.number())),
            net => Ok(net.ok().map(|net| net.trunc())),
        }
    }
}

/// Whether an option is understood, in its module.
fn is_understood(option: &str, module: &str) -> bool {
    match option {
        "-p" | "--protocol" | "--proto" | "-s" | "--source" | "--src" | "-d" | "--destination"
        | "--dst" | "-i" | "--in-interface" | "-o" | "--out-interface" => true,
        "--sport" | "--source-port" | "--dport" | "--destination-port" => {
            // The modules of protocols are loaded without -m.
            module.is_empty() || MODULES.contains(&module)
        }
        "--sports" | "--source-ports" | "--dports" | "--destination-ports" => module == "multiport",
        "--uid-owner" | "--gid-owner" => module == "owner",
        "--ctstate" => module == "conntrack",
        "--state" => module == "state",
        "--mark" => module == "mark" || module == "connmark",
        "--comment" => module == "comment",
        _ => false,
    }
}

/// Whether a condition always holds. `iptables-save` leaves such conditions out.
fn is_always(matches: &Match) -> bool {
    const EVERY: PortRange = PortRange {
        first: 0,
        last: u16::MAX,
    };
    match matches {
        Match::Source(net) | Match::Destination(net) => net.prefix_len() == 0,
        Match::SourcePort(ports) | Match::DestinationPort(ports) => ports.contains(&EVERY),
        Match::In(Interface(name)) | Match::Out(Interface(name)) => name == "+",
        Match::Protocol(Protocol::Other(name)) => name == "all" || name == "0",
        Match::Protocol(Protocol::Tcp | Protocol::Udp)
        | Match::Uid(_)
        | Match::Gid(_)
        | Match::State(_)
        | Match::Mark(_)
        | Match::Connmark(_)
        | Match::Unknown(_) => false,
    }
}

fn protocol(name: &str) -> Protocol {
    match name {
        "tcp" | "6" => Protocol::Tcp,
        "udp" | "17" => Protocol::Udp,
        other => Protocol::Other(other.to_owned()),
    }
}

fn states(text: &str) -> Option<Vec<String>> {
    let mut states: Vec<_> = text.split(',').map(str::to_owned).collect();
    states.sort_unstable();
    let all_known = states.iter().all(|state| STATES.contains(&state.as_str()));
    all_known.then_some(states)
}
