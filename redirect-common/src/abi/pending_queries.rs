//! Which resolvers a socket that is not connected has asked, so that answers come from them.
//!
//! The mesh's resolver answers in place of all of them, from one address, so that nothing in an
//! answer says whom it stands for. What is known is the order in which they were asked.

use crate::net::BeAddr;

/// The resolvers of one family that a socket has asked, the latest eight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PendingQueries {
    /// At the number of the query, modulo their count.
    servers: [BeAddr; Self::KEPT as usize],
    /// When the last one was asked, in nanoseconds since the machine was started.
    last: u64,
    /// How many queries there were.
    queries: u32,
    /// How many of them are answered, or given up.
    answered: u32,
}

impl PendingQueries {
    /// As many as there are places for. A C library asks three resolvers at once at the most
    /// (`MAXNS` of `resolv.h`), for two kinds of address.
    const KEPT: u32 = 8;
    /// A second: whoever asks again after that does so because there was no answer.
    const PAUSE: u64 = 1_000_000_000;

    /// Remembers a query, at `now` nanoseconds since the machine was started.
    #[inline(always)]
    pub fn ask(&mut self, server: BeAddr, now: u64) {
        if now.wrapping_sub(self.last) > Self::PAUSE {
            self.answered = self.queries;
        }
        self.last = now;
        if let Some(place) = self.servers.get_mut(Self::place(self.queries)) {
            *place = server;
        }
        self.queries = self.queries.wrapping_add(1);
        if self.queries.wrapping_sub(self.answered) > Self::KEPT {
            self.answered = self.queries.wrapping_sub(Self::KEPT);
        }
    }

    /// Whom the next answer is from: of those that have not answered the one that was asked first;
    /// if all have, the one that was asked last. Nobody if nobody was asked.
    #[inline(always)]
    pub fn answer(&mut self) -> Option<BeAddr> {
        if self.last == 0 {
            return None;
        }
        if self.answered != self.queries {
            self.answered = self.answered.wrapping_add(1);
        }
        let answering = self.answered.wrapping_sub(1);
        self.servers.get(Self::place(answering)).copied()
    }

    #[inline(always)]
    const fn place(query: u32) -> usize {
        (query % Self::KEPT) as usize
    }
}

/// The same for both families: a socket of IPv6 may ask resolvers of either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DnsPending {
    v4: PendingQueries,
    v6: PendingQueries,
}

impl DnsPending {
    /// The resolvers of the family of `addr`.
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

    /// Somebody who has asked these, one after the other.
    fn asked(servers: impl IntoIterator<Item = u8>) -> PendingQueries {
        let mut asked = PendingQueries::default();
        for (now, last) in (1..).zip(servers) {
            asked.ask(server(last), now);
        }
        asked
    }

    #[test]
    fn answers_are_from_whom_was_asked_in_that_order() {
        let mut three = asked([1, 2, 3]);
        let from = [(); 4].map(|()| three.answer());
        assert_eq!(from, [1, 2, 3, 3].map(|last| Some(server(last))));
        assert_eq!(asked([]).answer(), None);
    }

    #[test]
    fn the_oldest_queries_are_forgotten() {
        let mut many = asked(1..=11);
        assert_eq!(many.answer(), Some(server(4)));
    }

    #[test]
    fn who_has_not_answered_for_long_does_not_answer_for_others() {
        let mut patient = asked([1]);
        patient.ask(server(2), 6_000_000_000);
        assert_eq!(patient.answer(), Some(server(2)));
        assert_eq!(patient.answer(), Some(server(2)));
    }

    #[test]
    fn families_are_told_apart() {
        let mut both = DnsPending::default();
        let v6 = BeAddr::LOOPBACK6;
        both.of(server(1)).ask(server(1), 1);
        both.of(v6).ask(v6, 2);
        assert_eq!(both.of(v6).answer(), Some(v6));
        assert_eq!(both.of(server(9)).answer(), Some(server(1)));
    }
}
