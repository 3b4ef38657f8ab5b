//! The rounds: every round measures all arms, for each number of ranges.

use std::{collections::BTreeMap, path::Path, process, time::Duration};

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::{GuardedFolder, RateReport};
use redirect_user::{node::uninstall, sys::bpffs};
use serde::Serialize;

use crate::{
    args::Args,
    arm::Arm,
    progress::Progress,
    random::Random,
    ranges::ranges,
    site::{DESTINATION, Site},
};

/// The duration of a warm-up, in which caches, allocators and neighbour tables fill up.
const WARM_UP: Duration = Duration::from_millis(100);

/// The measurement of one arm in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    /// The number of excluded ranges.
    pub(crate) ranges: u32,
    /// The round, from 1.
    pub(crate) round: u32,
    /// The position within the round, from 1.
    pub(crate) place: usize,
    /// The name of the arm.
    pub(crate) arm: &'static str,
    /// The number of connections.
    pub(crate) connections: u64,
    /// The duration of the measurement.
    pub(crate) seconds: f64,
    /// The connections per second.
    pub(crate) rate: f64,
    /// The rate divided by the direct arm's in the same round.
    pub(crate) of_direct: f64,
    /// The median time of one connect.
    pub(crate) p50_ns: u64,
    /// The 99th percentile of the time of one connect.
    pub(crate) p99_ns: u64,
    /// Failed connects by the error's name.
    pub(crate) errors: BTreeMap<String, u64>,
}

/// Measures all arms in all rounds.
pub(crate) fn measure(args: &Args) -> Result<Vec<Run>> {
    let owner = Path::new(bpffs::MOUNT_POINT).join(format!("redirect-bench-{}", process::id()));
    // The guard starts before anything is made there, so that the folder is removed even if this process is killed.
    let _guard = GuardedFolder::guard(&owner)?;
    let (rounds, _) = args.length();
    let progress = Progress::new(u64::from(rounds) * args.ranges.len() as u64);
    let mut runs = Vec::new();
    for &count in &args.ranges {
        runs.extend(with_ranges(args, count, &owner, &progress)?);
    }
    let removed = uninstall(&owner)?;
    ensure!(
        removed.foreign.is_empty(),
        "uninstall: these files are foreign: {:?}",
        removed.foreign
    );
    Ok(runs)
}

fn with_ranges(args: &Args, count: u32, owner: &Path, progress: &Progress) -> Result<Vec<Run>> {
    progress.say(&format!("{count} ranges: making pods"));
    let excluded = ranges(count, args.seed, DESTINATION.ip());
    let mut sites = Vec::new();
    for arm in args.arms() {
        let owner = args
            .baseline
            .as_deref()
            .filter(|_| arm == Arm::Baseline)
            .unwrap_or(owner);
        let site = Site::make(arm, &excluded, owner)
            .and_then(|mut site| site.measure(WARM_UP, args.await_close).map(|_| site))
            .with_context(|| format!("prepare {arm} with {count} ranges"))?;
        sites.push(site);
    }
    let (rounds, duration) = args.length();
    let mut random = Random::new(args.seed);
    let mut runs = Vec::new();
    for round in 1..=rounds {
        // The order is random: a machine that slows down would flatter a direct arm that is always the first.
        random.shuffle(&mut sites);
        let mut measured = Vec::new();
        for site in &mut sites {
            let rated = site.measure(duration, args.await_close).with_context(|| {
                format!("measure {} with {count} ranges, round {round}", site.arm)
            })?;
            measured.push((site.arm, rated));
        }
        let round = compared(count, round, measured)?;
        progress.round(&round);
        runs.extend(round);
    }
    for site in sites {
        let arm = site.arm;
        site.close()
            .with_context(|| format!("account for {arm} with {count} ranges"))?;
    }
    Ok(runs)
}

/// The measurements of a round, each divided by the direct arm's.
fn compared(ranges: u32, round: u32, measured: Vec<(Arm, RateReport)>) -> Result<Vec<Run>> {
    let direct = measured
        .iter()
        .find(|(arm, _)| *arm == Arm::Direct)
        .map(|(_, rated)| rated.per_second());
    let direct = direct
        .filter(|rate| *rate > 0.0)
        .context("measure at least one direct connection")?;
    let runs = measured
        .into_iter()
        .enumerate()
        .map(|(index, (arm, rated))| {
            let rate = rated.per_second();
            Run {
                ranges,
                round,
                place: index + 1,
                arm: arm.name(),
                connections: rated.connections,
                seconds: rated.seconds,
                rate,
                of_direct: rate / direct,
                p50_ns: rated.p50_ns,
                p99_ns: rated.p99_ns,
                errors: rated.errors,
            }
        });
    Ok(runs.collect())
}
