//! Tables, chains and rules, as far as they decide the fate of a connection.

use ipnet::IpNet;
use redirect_user::config::{Interface, PortRange};

use crate::rules::Family;

/// The rules of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// The family.
    pub family: Family,
    /// The tables, in the order of the text.
    pub tables: Vec<Table>,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// `nat`, `raw`, `mangle`, …
    pub name: String,
    /// The chains, in the order of the text.
    pub chains: Vec<Chain>,
}

/// One chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// `OUTPUT`, `ISTIO_OUTPUT`, …
    pub name: String,
    /// The fate of a packet at the end of a built-in chain, usually `ACCEPT`; none for a chain that a user made.
    pub policy: Option<String>,
    /// The rules, in order.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The line of the text, counted from 1.
    pub line: usize,
    /// The text of the rule, from `-A` on.
    pub text: String,
    /// The conditions, all of which must hold.
    pub tests: Vec<Test>,
    /// The action on a packet that matches.
    pub target: Target,
}

/// The key by which rules are compared. Rules that differ only in the order of their tests have the same key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleKey {
    tests: Vec<Test>,
    target: Target,
}

/// One condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// Whether `!` stands before the condition.
    pub negated: bool,
    /// The condition.
    pub matches: Match,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// `-p`.
    Protocol(Protocol),
    /// `-s`, without host bits.
    Source(IpNet),
    /// `-d`, without host bits.
    Destination(IpNet),
    /// `-i`.
    In(Interface),
    /// `-o`.
    Out(Interface),
    /// `--sport`, `--sports`: any of these.
    SourcePort(Vec<PortRange>),
    /// `--dport`, `--dports`: any of these.
    DestinationPort(Vec<PortRange>),
    /// `--uid-owner`.
    Uid(IdRange),
    /// `--gid-owner`, of the owner's primary group only.
    Gid(IdRange),
    /// `--ctstate`, `--state`: any of these.
    State(Vec<String>),
    /// `-m mark --mark`.
    Mark(Bits),
    /// `-m connmark --mark`.
    Connmark(Bits),
    /// Any other condition, as text.
    Unknown(String),
}

/// A transport protocol.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Another protocol, by name or number.
    Other(String),
}

/// Ids from `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdRange {
    /// The lowest id.
    pub first: u32,
    /// The highest id; equal to `first` for a single id.
    pub last: u32,
}

/// A value and the bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bits {
    /// The value.
    pub value: u32,
    /// The bits of the value that count.
    pub mask: u32,
}

/// The action on a packet that matches a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// `RETURN`.
    Return,
    /// `ACCEPT`.
    Accept,
    /// `DROP` or `REJECT`: both let no connection through.
    Drop,
    /// `-j` to a chain of the table.
    Jump(String),
    /// `-g` to a chain of the table.
    Goto(String),
    /// `REDIRECT` to this port, or to the packet's destination port.
    Redirect(Option<u16>),
    /// `TPROXY` to this port, with this mark.
    Tproxy(u16, Bits),
    /// `MARK --set-xmark`: clears the bits of the mask, then flips those of the value.
    Mark(Bits),
    /// `CONNMARK`.
    Connmark(ConnmarkOp),
    /// A target that decides nothing, as text: none, `LOG`, `CT --zone`, …
    Aside(String),
    /// Any other target, as text.
    Unknown(String),
}

/// The operations of `CONNMARK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnmarkOp {
    /// `--set-xmark`: as [`Target::Mark`], on the connection's mark.
    Set(Bits),
    /// `--save-mark`: copies the packet's mark to the connection's, with two masks.
    Save {
        /// `--nfmask`: the bits taken from the packet's mark.
        packet: u32,
        /// `--ctmask`: the bits cleared in the connection's.
        connection: u32,
    },
    /// `--restore-mark`: copies the connection's mark to the packet's, with two masks.
    Restore {
        /// `--nfmask`: the bits cleared in the packet's mark.
        packet: u32,
        /// `--ctmask`: the bits taken from the connection's.
        connection: u32,
    },
}

impl Ruleset {
    /// A family without rules.
    pub const fn empty(family: Family) -> Self {
        Self {
            family,
            tables: Vec::new(),
        }
    }

    /// A table by name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The rules of a chain; none if there is no such chain.
    pub fn rules_of(&self, table: &str, chain: &str) -> &[Rule] {
        self.table(table)
            .and_then(|table| table.chain(chain))
            .map_or(&[], |chain| chain.rules.as_slice())
    }

    /// Every chain with its table.
    pub fn chains(&self) -> impl Iterator<Item = (&Table, &Chain)> {
        self.tables
            .iter()
            .flat_map(|table| table.chains.iter().map(move |chain| (table, chain)))
    }

    /// Every rule.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.chains().flat_map(|(_, chain)| &chain.rules)
    }

    /// Whether no rule or policy can change the fate of a packet.
    pub fn is_empty(&self) -> bool {
        self.chains()
            .all(|(_, chain)| chain.rules.is_empty() && chain.accepts())
    }
}

impl Table {
    /// A chain by name.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}

impl Chain {
    /// Whether a packet passes at the end of the chain.
    pub fn accepts(&self) -> bool {
        self.policy
            .as_deref()
            .is_none_or(|policy| policy == "ACCEPT")
    }
}

impl Rule {
    /// The key by which the rule is compared.
    pub fn key(&self) -> RuleKey {
        let mut tests = self.tests.clone();
        tests.sort_unstable();
        RuleKey {
            tests,
            target: self.target.clone(),
        }
    }
}

impl IdRange {
    /// Whether the range contains an id.
    pub const fn contains(self, id: u32) -> bool {
        self.first <= id && id <= self.last
    }

    /// The id, if the range has only one.
    pub fn single(self) -> Option<u32> {
        (self.first == self.last).then_some(self.first)
    }
}

impl Bits {
    /// Whether a mark has this value in the bits that count.
    pub const fn matches(self, mark: u32) -> bool {
        mark & self.mask == self.value
    }

    /// A mark with these bits set in the way of `--set-xmark`.
    pub const fn set_in(self, mark: u32) -> u32 {
        (mark & !self.mask) ^ self.value
    }
}
