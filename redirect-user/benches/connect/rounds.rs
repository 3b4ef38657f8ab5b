//! The rounds: all arms interleaved, for each number of ranges.

use std::{path::Path, process, time::Duration};

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::{GuardedFolder, RateReport};
use redirect_user::{node::uninstall, sys::bpffs};

use crate::{
    args::Args,
    arm::Arm,
    progress::Progress,
    random::Random,
    ranges::ranges,
    run::Run,
    site::{DESTINATION, Site},
};

/// The duration of a first measurement, which fills caches, allocators and neighbour tables.
const WARM_UP: Duration = Duration::from_millis(100);

/// Measures all arms with each number of ranges.
pub(crate) fn measure(args: &Args) -> Result<Vec<Run>> {
    let state_dir = Path::new(bpffs::MOUNT_POINT).join(format!("redirect-bench-{}", process::id()));
    // Guarded before anything is created there, so that it is removed even if this process is
    // killed.
    let _guard = GuardedFolder::guard(&state_dir)?;
    let (rounds, _) = args.length();
    let progress = Progress::new(u64::from(rounds) * args.ranges.len() as u64);
    let mut runs = Vec::new();
    for &count in &args.ranges {
        runs.extend(with_ranges(args, count, &state_dir, &progress)?);
    }
    let removed = uninstall(&state_dir)?;
    ensure!(
        removed.foreign.is_empty(),
        "files that are not ours: {:?}",
        removed.foreign
    );
    Ok(runs)
}

fn with_ranges(args: &Args, count: u32, state_dir: &Path, progress: &Progress) -> Result<Vec<Run>> {
    progress.show(&format!("{count} ranges: creating pods"));
    let excluded = ranges(count, args.seed, DESTINATION.ip());
    let mut sites = Vec::new();
    for arm in args.arms() {
        let state_dir = args
            .baseline
            .as_deref()
            .filter(|_| arm == Arm::Baseline)
            .unwrap_or(state_dir);
        let site = Site::make(arm, &excluded, state_dir)
            .and_then(|mut site| site.measure(WARM_UP, args.await_close).map(|_| site))
            .with_context(|| format!("prepare {arm} with {count} ranges"))?;
        sites.push(site);
    }
    let (rounds, duration) = args.length();
    let mut random = Random::new(args.seed);
    let mut runs = Vec::new();
    for round in 1..=rounds {
        // Shuffled, because a machine that slows down would flatter an arm that is always first.
        random.shuffle(&mut sites);
        let mut measured = Vec::new();
        for site in &mut sites {
            let rated = site.measure(duration, args.await_close).with_context(|| {
                format!("measure {} with {count} ranges, round {round}", site.arm)
            })?;
            measured.push((site.arm, rated));
        }
        let round = round_runs(count, round, measured)?;
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

/// The runs of a round, with each rate also as a fraction of the direct arm's.
fn round_runs(ranges: u32, round: u32, measured: Vec<(Arm, RateReport)>) -> Result<Vec<Run>> {
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
