//! A pod of the mesh with its real sidecar and an application, and a tally of all its connections.

use std::{
    ops::AddAssign,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use redirect_common::{
    abi::Hits,
    chain::{RuleId, Verdict},
};
use redirect_testkit::{
    Answer, Dial, DialOutcome, Envoy, EnvoyStats, Flood, FloodReport, Worker,
    node::{Container, Sandbox},
    wait_until, with_background,
};
use serde_json::json;

use super::mesh::{FAR, LATE, Mesh, far};
use crate::Tested;

/// Longer than a sidecar takes to start, which is a tenth of a second on a quiet machine.
const STARTING: Duration = Duration::from_mins(1);

/// A pod of the mesh with its real sidecar and an application.
pub(super) struct MeshPod<'mesh> {
    mesh: &'mesh Mesh,
    pub(super) uid: String,
    pub(super) sandbox: Sandbox<'mesh>,
    sidecar: Container<'mesh>,
    pub(super) app: Worker,
    pub(super) tally: Tally,
}

/// Connections of an application by outcome. Any other outcome is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Through the proxy, with the right original destination.
    pub(crate) proxied: u64,
    /// Directly to the server.
    pub(crate) direct: u64,
    /// Refused: redirected, and no proxy listened.
    pub(crate) refused: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, rhs: Self) {
        self.proxied += rhs.proxied;
        self.direct += rhs.direct;
        self.refused += rhs.refused;
    }
}

impl Tally {
    /// The tally of a flood. Every connection must have exactly one of these outcomes.
    pub(crate) fn of(flooded: &FloodReport) -> Result<Self> {
        let greeted = flooded.by_server.get(FAR).copied().unwrap_or_default();
        ensure!(
            flooded.wrong == 0
                && flooded.errors.is_empty()
                && greeted == flooded.right + flooded.missing,
            "{flooded:?}"
        );
        Ok(Self {
            proxied: flooded.right,
            direct: flooded.missing,
            refused: flooded.refused,
        })
    }

    /// The tally of one connection.
    pub(crate) fn of_outcome(outcome: &DialOutcome) -> Result<Self> {
        let mut tally = Self::default();
        match outcome {
            DialOutcome::Refused => tally.refused += 1,
            DialOutcome::Connected(Answer::Banner(banner)) if banner.server == FAR => {
                match banner.orig_dst {
                    None => tally.direct += 1,
                    Some(try_metric) if try_metric == far() => tally.proxied += 1,
                    Some(_) => bail!("misdirected: {outcome:?}"),
                }
            }
            DialOutcome::Connected(_) | DialOutcome::Failed { .. } => bail!("lost: {outcome:?}"),
        }
        Ok(tally)
    }
}

/// The first connection of an application.
pub(crate) fn first() -> Dial {
    Dial::to(far()).send("\n").timeout(STARTING)
}

impl<'mesh> MeshPod<'mesh> {
    /// Starts a pod: a container of the application before its sidecar, whose first connection is refused,
    /// and one after it, whose first connection goes through the sidecar.
    pub(super) fn start(mesh: &'mesh Mesh, uid: &str) -> Result<Self> {
        mesh.put(uid, &json!({}));
        let sandbox = mesh.run(uid)?;
        let (early, dialled) = sandbox.app("early", &first())?;
        let mut tally = Tally::of_outcome(&dialled.outcome)?;
        ensure!(tally.refused == 1, "before its sidecar: {dialled:?}");
        let sidecar = sandbox.sidecar()?;
        let is_ready = || EnvoyStats::of(&early).is_ok();
        ensure!(wait_until(STARTING, is_ready), "Envoy does not start");
        let (app, dialled) = sandbox.app("app", &first())?;
        tally += Tally::of_outcome(&dialled.outcome)?;
        ensure!(tally.proxied == 1, "at its first instruction: {dialled:?}");
        Ok(Self {
            mesh,
            uid: uid.to_owned(),
            sandbox,
            sidecar,
            app,
            tally,
        })
    }

    /// Dials until `is_over`, at least once.
    pub(super) fn flood(&mut self, is_over: &AtomicBool) -> Tested {
        // The server reports connections through the proxy, and the tally has both kinds.
        let flood = Flood::new(FAR, [far()], 50).concurrency(2).speaking_first();
        let flooded = self.app.flood_until(&flood, is_over)?;
        self.tally += Tally::of(&flooded)?;
        Ok(())
    }

    /// Dials once more.
    pub(super) fn dial(&mut self) -> Result<Tally> {
        let tally = Tally::of_outcome(&self.app.dial(&first())?.outcome)?;
        self.tally += tally;
        Ok(tally)
    }

    /// Compares the tally with the counters of the programs and of Envoy.
    pub(super) fn check_counts(&self) -> Tested {
        let hits = self
            .mesh
            .hits(self.sandbox.cgroup())?
            .context("it is not attached")?;
        let Tally {
            proxied,
            direct,
            refused,
        } = self.tally;
        let name = &self.uid;
        let out = redirected(&hits);
        ensure!(
            out == proxied + refused,
            "{name}: {out} redirected, {:?}",
            self.tally
        );
        let excluded = hits.of(RuleId::CidrExcluded);
        ensure!(
            excluded == direct,
            "{name}: {excluded} excluded, {:?}",
            self.tally
        );
        let by_proxy = hits.of(RuleId::Uid);
        // For a moment two layouts decide, and both count connections that neither redirects.
        let is_counted =
            by_proxy == proxied || by_proxy > proxied && self.mesh.former_layouts().exists();
        ensure!(is_counted, "{name}: {by_proxy} of Envoy, {:?}", self.tally);
        ensure!(
            (hits.flow_lost, hits.record_failed) == (0, 0),
            "{name}: {hits:?}"
        );
        let envoy = EnvoyStats::of(&self.app)?;
        let counted = (
            envoy.accepted("0.0.0.0_15001")?,
            envoy.connections(Envoy::PASSTHROUGH)?,
        );
        ensure!(
            counted == (proxied, proxied),
            "{name}: {counted:?}, {:?}",
            self.tally
        );
        Ok(())
    }

    /// Ends the pod while an application dials without a pause: first the sidecar, then the rest. The tally
    /// is checked before.
    pub(super) fn stop(self) -> Result<Tally> {
        self.check_counts()?;
        let late = Dial::to(LATE.parse()?).send("\n").timeout(STARTING);
        let (late, dialled) = self.sandbox.app("late", &late)?;
        ensure!(dialled.orig_dst() == Some(LATE.parse()?), "{dialled:?}");
        let flood = Flood::new(LATE, [LATE.parse()?], 100)
            .concurrency(2)
            .speaking_first();
        let has_failed = AtomicBool::new(false);
        thread::scope(|scope| {
            // The flood ends when its process is killed, or when killing it has failed.
            let dialling = scope.spawn(|| late.flood_until(&flood, &has_failed));
            let ended = self.sidecar.kill().and_then(|()| self.sandbox.remove());
            has_failed.store(ended.is_err(), Ordering::Relaxed);
            let broken = dialling.join().map_err(|_panic| anyhow!("a panic"))?;
            ensure!(
                ended.is_err() || broken.is_err(),
                "it was not killed: {broken:?}"
            );
            ended
        })?;
        self.mesh.delete(&self.uid);
        Ok(self.tally)
    }
}

/// Connections that the programs have redirected to the proxy.
pub(crate) fn redirected(hits: &Hits) -> u64 {
    let rules = RuleId::ALL.into_iter();
    let out = rules.filter(|rule| rule.verdict() == Verdict::Out);
    out.map(|rule| hits.of(rule)).sum()
}

/// Floods from all pods while `act` runs.
pub(super) fn under_load<T>(
    shops: &mut [MeshPod<'_>],
    act: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let floods = shops
        .iter_mut()
        .map(|shop| |is_over: &AtomicBool| shop.flood(is_over));
    Ok(with_background(floods, act)?.0)
}
