// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rate of connects that one thread reaches, and the time that each connect takes.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::errno;

/// A measurement to make: connect and close with a reset, repeatedly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// The first destination.
    pub to: SocketAddr,
    /// The number of destinations, which are dialled in turn: addresses that follow each other.
    pub destinations: u32,
    /// The duration of the measurement.
    pub duration: Duration,
    /// Whether to wait for the server to close before closing. The loop is then closed: a server that is slower
    /// than the client cannot overflow its accept queue, which would turn the tail into SYN retransmissions.
    pub await_close: bool,
}

/// The results of a measurement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RateReport {
    /// Successful connects.
    pub connections: u64,
    /// Failed connects by the errno's name.
    pub errors: BTreeMap<String, u64>,
    /// The real duration.
    pub seconds: f64,
    /// The median time of one connect, in nanoseconds.
    pub p50_ns: u64,
    /// The 99th percentile of one connect, in nanoseconds.
    pub p99_ns: u64,
}

impl RateReport {
    /// Successful connects per second.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub fn per_second(&self) -> f64 {
        self.connections as f64 / self.seconds
    }
}

/// Makes the measurement.
pub(crate) fn rate(request: &Rate) -> RateReport {
    let mut rated = RateReport::default();
    // Room for one second at a rate that no machine reaches, so that the vector rarely grows.
    let mut times = Vec::with_capacity(1 << 20);
    let mut number = 0_u32;
    let begun = Instant::now();
    while begun.elapsed() < request.duration {
        let to = nth(request, number);
        number = number.wrapping_add(1);
        match connect_once(to, request.await_close) {
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

/// The destination of connection number `number`.
#[expect(
    clippy::disallowed_methods,
    reason = "addresses are counted up, and nothing is passed on in host order"
)]
fn nth(request: &Rate, number: u32) -> SocketAddr {
    let step = number.checked_rem(request.destinations).unwrap_or_default();
    let ip = match request.to.ip() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits().wrapping_add(step)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits().wrapping_add(step.into())).into(),
    };
    SocketAddr::new(ip, request.to.port())
}

/// Connects once, and returns the time of the connect without making and closing the socket.
fn connect_once(to: SocketAddr, await_close: bool) -> io::Result<u64> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_linger(Some(Duration::ZERO))?;
    let to = to.into();
    let begun = Instant::now();
    socket.connect(&to)?;
    let time = begun.elapsed();
    if await_close {
        // A reset counts as a close.
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
