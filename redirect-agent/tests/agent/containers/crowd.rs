//! Pods that come and go, many at once.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Result, anyhow, ensure};

use super::{
    Say,
    mesh::{LATE, Mesh},
    shop::{Account, Shop},
};
use crate::Tested;

/// How often an application dials, fifty times each.
const FLOODS: usize = 4;

/// So many pods, so many at a time, each with its own life.
pub(super) fn crowd(name: &str, pods: usize, at_once: usize, say: Say) -> Tested {
    let begun = Instant::now();
    let mesh = &Mesh::new(name)?;
    let agent = mesh.guarded()?;
    let next = &AtomicUsize::new(0);
    let total = thread::scope(|scope| {
        let lives: Vec<_> = (0..at_once)
            .map(|_| scope.spawn(move || lives(mesh, name, next, pods, say)))
            .collect();
        let mut total = Account::default();
        for life in lives {
            total += life.join().map_err(|_panic| anyhow!("a panic"))??;
        }
        Ok::<_, anyhow::Error>(total)
    })?;
    mesh.until_nobody_is_left(&agent)?;
    mesh.balance(total)?;
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

/// One pod after the other, as long as there are any to come.
fn lives(mesh: &Mesh, name: &str, next: &AtomicUsize, pods: usize, say: Say) -> Result<Account> {
    let mut total = Account::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= pods {
            return Ok(total);
        }
        let mut shop = Shop::open(mesh, &format!("{name}-{number}"))?;
        for _ in 0..FLOODS {
            shop.trade(&AtomicBool::new(true))?;
        }
        total += shop.close()?;
        say(&format!("{} of {pods} pods", number + 1));
    }
}
