//! The log record of a connection.

use std::{fmt, net::SocketAddr};

use serde::Serialize;

/// The ending of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Connected to its original destination.
    Forwarded,
    /// Closed with nothing sent: the destination is not registered.
    Blackholed,
    /// Closed: the destination did not accept the connection.
    Refused,
    /// Closed: it was made to this very proxy, or by it.
    Loop,
    /// Closed: the kernel does not know the original destination.
    Unknown,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Forwarded => "forwarded",
            Self::Blackholed => "blackholed",
            Self::Refused => "refused",
            Self::Loop => "loop",
            Self::Unknown => "unknown",
        })
    }
}

/// A connection that has ended.
///
/// The text form is one line of six columns under [`Record::HEADER`]: result, peer, original
/// destination (`-` if unknown), bytes from the peer, bytes to the peer, and a reason if there is
/// one. Columns are at least two blanks apart; only the reason contains single blanks. IPv4
/// lines are aligned; an IPv6 address may push the rest to the right.
///
/// ```text
/// RESULT      PEER                   ORIGINAL DESTINATION         SENT    RECEIVED  REASON
/// forwarded   10.0.0.2:40112         36.152.44.96:80                78        1256
/// blackholed  10.0.0.2:40114         36.152.44.97:80                 0           0  not registered
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// The ending.
    #[serde(rename = "result")]
    pub ending: Ending,
    /// The client.
    pub peer: SocketAddr,
    /// The address that the client dialled.
    pub original_destination: Option<SocketAddr>,
    /// Bytes from the peer to the destination.
    pub sent: u64,
    /// Bytes from the destination to the peer.
    pub received: u64,
    /// The reason for closing the connection, unless both ends finished.
    pub reason: Option<String>,
}

impl Record {
    /// The names of the columns.
    pub const HEADER: &str =
        "RESULT      PEER                   ORIGINAL DESTINATION         SENT    RECEIVED  REASON";
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ending,
            peer,
            original_destination,
            sent,
            received,
            reason,
        } = self;
        let peer = peer.to_string();
        let dialled = original_destination.map_or_else(|| "-".to_owned(), |addr| addr.to_string());
        write!(
            f,
            "{ending:<10}  {peer:<21}  {dialled:<21}  {sent:>10}  {received:>10}"
        )?;
        reason
            .as_ref()
            .map_or(Ok(()), |reason| write!(f, "  {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_aligned_line() {
        let mut record = Record {
            ending: Ending::Forwarded,
            peer: "10.0.0.2:40112".parse().expect("peer"),
            original_destination: Some("36.152.44.96:80".parse().expect("destination")),
            sent: 78,
            received: 1256,
            reason: None,
        };
        let forwarded =
            "forwarded   10.0.0.2:40112         36.152.44.96:80                78        1256";
        assert_eq!(record.to_string(), forwarded);
        assert_eq!(Record::HEADER.find("  REASON"), Some(forwarded.len()));
        record.ending = Ending::Unknown;
        record.original_destination = None;
        record.reason = Some("not redirected".to_owned());
        assert_eq!(
            record.to_string(),
            "unknown     10.0.0.2:40112         -                              78        1256  \
             not redirected"
        );
        let json = serde_json::to_string(&record).expect("json");
        assert!(
            json.starts_with("{\"result\":\"unknown\",\"peer\":\"10.0.0.2:40112\""),
            "{json}"
        );
    }
}
