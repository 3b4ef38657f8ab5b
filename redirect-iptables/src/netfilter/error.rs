//! The reasons why a text is refused.

use ipnet::IpNet;
use thiserror::Error;

/// A text that cannot be read as rules.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {fault}")]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// The fault of the line.
    pub fault: Fault,
}

/// The fault of a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// A line that `iptables-save` does not write.
    #[error("\"{}\" is not a line of iptables-save: give its output unchanged", .0.escape_debug())]
    NotRules(String),
    /// A rule before the first table, or after its end.
    #[error("the rule belongs to no table: give the whole output of iptables-save")]
    NoTable,
    /// A second table with the same name.
    #[error("there is a second table {0}: give IPv6 rules as a text of their own")]
    TableAgain(String),
    /// A rule for a chain that the table does not have.
    #[error("there is no chain {0} in the table: give the whole output of iptables-save")]
    NoChain(String),
    /// An address of the other family.
    #[error("{0} is not an address of IPv{1}: give IPv4 and IPv6 rules as two texts")]
    OtherFamily(IpNet, u8),
    /// The end of the text before the end of the table.
    #[error("the text ends before COMMIT, it was cut off: give the whole output of iptables-save")]
    CutOff,
    /// A table that `iptables-nft-save` cannot show.
    #[error("iptables cannot show all rules of table {0}, which were written with nft")]
    Hidden(String),
}
