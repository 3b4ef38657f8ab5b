//! The resolvers that an unconnected socket has queried, so that answers seem to come from them.
//!
//! The mesh's resolver answers in place of all of them from one address, so an answer does not say
//! which resolver it stands for. Only the order of the queries is known.

use crate::net::BeAddr;

/// The last eight resolvers of one family that a socket has queried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PendingQueries {
    /// The resolver of each query, at the query's number modulo the array's length.
    servers: [BeAddr; Self::KEPT as usize],
    /// The time of the last query, in nanoseconds since the machine was started.
    last: u64,
    /// The number of queries.
    queries: u32,
    /// The number of queries that are answered or given up.
    answered: u32,
}

impl PendingQueries {
    /// The number of queries that are remembered. A C library queries at most three resolvers at
    /// once (`MAXNS` of `resolv.h`), for two kinds of address.
    const KEPT: u32 = 8;
    /// One second, in nanoseconds: a program that queries again after a longer pause does so
    /// because no answer came.
    const PAUSE: u64 = 1_000_000_000;

    /// Remembers a query at the time `now`, in nanoseconds since the machine was started.
    #[inline(always)]
    pub fn add_query(&mut self, server: BeAddr, now: u64) {
        if now.wrapping_sub(self.last) > Self::PAUSE {
            self.answered = self.queries;
        }
        self.last = now;
        if let Some(slot) = self.servers.get_mut(Self::slot(self.queries)) {
            *slot = server;
        }
        self.queries = self.queries.wrapping_add(1);
        if self.queries.wrapping_sub(self.answered) > Self::KEPT {
            self.answered = self.queries.wrapping_sub(Self::KEPT);
        }
    }

    /// The resolver that the next answer stands for: the one with the oldest query without an
    /// answer; if every query is answered, the one queried last. `None` if the socket has queried
    /// no resolver.
    #[inline(always)]
    pub fn next_resolver(&mut self) -> Option<BeAddr> {
        if self.last == 0 {
            return None;
        }
        if self.answered != self.queries {
            self.answered = self.answered.wrapping_add(1);
        }
        let answering = self.answered.wrapping_sub(1);
        self.servers.get(Self::slot(answering)).copied()
    }

    #[inline(always)]
    const fn slot(query: u32) -> usize {
        (query % Self::KEPT) as usize
    }
}

/// The pending queries of a socket, by family: an IPv6 socket can query resolvers of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DnsPending {
    v4: PendingQueries,
    v6: PendingQueries,
}

impl DnsPending {
    /// The pending queries to resolvers of the family of `addr`.
    #[inline(always)]
    pub const fn of(&mut self, addr: BeAddr) -> &mut PendingQueries {
        if addr.is_v4() {
            &mut self.v4
        } else {
            &mut self.v6
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    fn server(last: u8) -> BeAddr {
        Ipv4Addr::new(10, 96, 0, last).into()
    }

    /// A socket that has queried these resolvers, one after the other.
    fn queried(servers: impl IntoIterator<Item = u8>) -> PendingQueries {
        let mut pending = PendingQueries::default();
        for (now, last) in (1..).zip(servers) {
            pending.add_query(server(last), now);
        }
        pending
    }

    #[test]
    fn answers_come_from_the_resolvers_in_the_order_of_the_queries() {
        let mut three = queried([1, 2, 3]);
        let from = [(); 4].map(|()| three.next_resolver());
        assert_eq!(from, [1, 2, 3, 3].map(|last| Some(server(last))));
        assert_eq!(queried([]).next_resolver(), None);
    }

    #[test]
    fn the_oldest_queries_are_forgotten() {
        let mut many = queried(1..=11);
        assert_eq!(many.next_resolver(), Some(server(4)));
    }

    #[test]
    fn a_resolver_that_has_been_silent_for_long_does_not_answer_for_others() {
        let mut pending = queried([1]);
        pending.add_query(server(2), 6_000_000_000);
        assert_eq!(pending.next_resolver(), Some(server(2)));
        assert_eq!(pending.next_resolver(), Some(server(2)));
    }

    #[test]
    fn families_are_told_apart() {
        let mut both = DnsPending::default();
        let v6 = BeAddr::LOOPBACK6;
        both.of(server(1)).add_query(server(1), 1);
        both.of(v6).add_query(v6, 2);
        assert_eq!(both.of(v6).next_resolver(), Some(v6));
        assert_eq!(both.of(server(9)).next_resolver(), Some(server(1)));
    }
}
