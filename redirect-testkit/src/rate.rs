// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many connections a second one thread can make, and how long each connect takes.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::errno;

/// Connect and close with a reset, over and over, for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Where to.
    pub to: SocketAddr,
    /// For how long.
    pub duration: Duration,
    /// Wait for the server to close before closing: a closed loop, so that a server slower than
    /// the client doesn't overflow its accept queue and turn the tail into SYN retransmissions.
    pub await_close: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RateReport {
    /// Successful connects.
    pub connections: u64,
    /// Errors by name.
    pub errors: BTreeMap<String, u64>,
    /// How long it really took.
    pub seconds: f64,
    /// The median time of one connect, in nanoseconds.
    pub p50_ns: u64,
    /// The 99th percentile of one connect, in nanoseconds.
    pub p99_ns: u64,
}

impl RateReport {
    /// Successful connects a second.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub fn per_second(&self) -> f64 {
        self.connections as f64 / self.seconds
    }
}

/// Measures.
pub(crate) fn rate(request: &Rate) -> RateReport {
    let mut rated = RateReport::default();
    // Room for a second at a rate no machine reaches, so that growing is rare.
    let mut times = Vec::with_capacity(1 << 20);
    let begun = Instant::now();
    while begun.elapsed() < request.duration {
        match connect_once(request) {
            Ok(time) => times.push(time),
            Err(error) => {
                let name = errno::name(errno::of(&error));
                *rated.errors.entry(name).or_default() += 1;
            }
        }
    }
    rated.seconds = begun.elapsed().as_secs_f64();
    rated.connections = times.len() as u64;
    times.sort_unstable();
    rated.p50_ns = percentile(&times, 50);
    rated.p99_ns = percentile(&times, 99);
    rated
}

/// The time of the connect alone, without making and closing the socket.
fn connect_once(request: &Rate) -> io::Result<u64> {
    let socket = Socket::new(
        Domain::for_address(request.to),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_linger(Some(Duration::ZERO))?;
    let to = request.to.into();
    let begun = Instant::now();
    socket.connect(&to)?;
    let time = begun.elapsed();
    if request.await_close {
        // A reset is as good an end as any.
        drop((&socket).read(&mut [0]));
    }
    u64::try_from(time.as_nanos()).map_err(io::Error::other)
}

fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(
            (
                percentile(&hundred, 50),
                percentile(&hundred, 99),
                percentile(&[], 50)
            ),
            (50, 99, 0)
        );
    }
}
