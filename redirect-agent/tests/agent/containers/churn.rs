//! Many pods that come and go.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Result, anyhow, ensure};

use super::{
    Say,
    mesh::{LATE, Mesh},
    mesh_pod::{MeshPod, Tally},
};
use crate::Tested;

/// Number of floods of an application, with fifty connections each.
const FLOODS: usize = 4;

/// Runs this many pods, this many at a time.
pub(super) fn churn(name: &str, pods: usize, at_once: usize, say: Say) -> Tested {
    let begun = Instant::now();
    let mesh = &Mesh::new(name)?;
    let agent = mesh.agent_with_plugin()?;
    let next = &AtomicUsize::new(0);
    let total = thread::scope(|scope| {
        let run_pods: Vec<_> = (0..at_once)
            .map(|_| scope.spawn(move || run_pods(mesh, name, next, pods, say)))
            .collect();
        let mut total = Tally::default();
        for life in run_pods {
            total += life.join().map_err(|_panic| anyhow!("a panic"))??;
        }
        Ok::<_, anyhow::Error>(total)
    })?;
    mesh.until_all_detached(&agent)?;
    mesh.check_world_counts(total)?;
    let late = mesh.accepted(LATE)?;
    ensure!(
        late.direct() == 0 && late.redirected >= pods as u64,
        "{late:?}"
    );
    say(&format!(
        "{pods} pods, {at_once} at once, in {:.1} s: {total:?}, and {late:?} of those who were killed",
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Runs one pod after the other, while there are any left.
fn run_pods(mesh: &Mesh, name: &str, next: &AtomicUsize, pods: usize, say: Say) -> Result<Tally> {
    let mut total = Tally::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= pods {
            return Ok(total);
        }
        let mut shop = MeshPod::start(mesh, &format!("{name}-{number}"))?;
        for _ in 0..FLOODS {
            shop.flood(&AtomicBool::new(true))?;
        }
        total += shop.stop()?;
        say(&format!("{} of {pods} pods", number + 1));
    }
}
