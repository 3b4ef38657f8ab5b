//! Commands that run at the same time: a slow reader stops nobody, and a held lock is named.
#![expect(
    clippy::disallowed_methods,
    reason = "the program under test is run as an operator runs it"
)]

use std::{
    fmt::Write as _,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::cases;
use redirect_user::{
    node::Reader,
    sys::dir_lock::{DirLock, Locked},
};

use crate::{Cases, Needs::Pods, Tested, bad_input::assert_refused, ctl::TempFile, scene::Scene};

pub(crate) const CASES: &[Cases] = cases! {
    Pods => [
        a_reader_that_is_not_read_from_stops_no_attach,
        the_holder_of_the_lock_is_named_after_the_deadline,
        a_reader_needs_no_lock,
        readers_see_the_old_or_the_new_ranges,
    ],
};

/// Ranges below 11.0.0.0/8, one a line: more than a pipe holds.
fn ranges(first: u32) -> String {
    let mut text = String::new();
    for number in 0..20_000_u32 {
        let (high, low) = (number / 256, number % 256);
        writeln!(text, "11.{high}.{low}.{first}/32").unwrap();
    }
    text
}

fn a_reader_that_is_not_read_from_stops_no_attach() -> Tested {
    let scene = Scene::new("pipe")?;
    let second = scene.pod.second_cgroup("meanwhile")?;
    let second = second.path().to_str().unwrap();
    scene.ok(&["attach", "-i", "*"]);
    let file = TempFile::new("pipe", ranges(1));
    scene.ok(&["cidr", "add", "--file", file.path()]);
    for args in [
        &["cidr", "list"][..],
        &["cidr", "replace", "--verbose", "--file"],
    ] {
        let other = TempFile::new("pipe-other", ranges(2));
        let mut args = scene.with_cgroup(args);
        if args[1] == "replace" {
            args.push(other.path());
        }
        let argv = scene.ctl.argv(&args);
        let mut stuck = Command::new(argv[0])
            .args(&argv[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        // The output fills the pipe, and nobody drains it.
        let pid = stuck.id();
        let is_writing = || {
            let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
            // The number of write(2), and standard output.
            call.starts_with("1 0x1 ")
        };
        let waits = redirect_testkit::wait_until(Duration::from_secs(20), is_writing);
        let begun = Instant::now();
        let attached = scene.ctl.run(&[
            "attach",
            "--cgroup",
            second,
            "-i",
            "*",
            "--lock-timeout",
            "5",
        ]);
        let took = begun.elapsed();
        let detached = scene
            .ctl
            .run(&["detach", "--cgroup", second, "--lock-timeout", "5"]);
        let is_stuck = stuck.try_wait()?.is_none();
        stuck.kill()?;
        stuck.wait()?;
        ensure!(waits && is_stuck, "{args:?} does not wait for its pipe");
        ensure!(attached.status == Some(0), "{attached:?} after {took:?}");
        ensure!(detached.status == Some(0), "{detached:?}");
    }
    Ok(())
}

fn the_holder_of_the_lock_is_named_after_the_deadline() -> Tested {
    let scene = Scene::new("held")?;
    scene.ok(&["attach", "-i", "*"]);
    let Locked::Held(lock) = DirLock::try_exclusive(scene.ctl.folder())? else {
        anyhow::bail!("the lock is held already");
    };
    let pid = format!("process {} (", std::process::id());
    let said = [scene.ctl.bpffs(), &*pid, "for more than 1 s"];
    for args in [
        scene.with_cgroup(&["detach", "--lock-timeout", "1"]),
        scene.with_cgroup(&["update", "--keep", "--lock-timeout", "1"]),
        scene.with_cgroup(&["cidr", "add", "10.0.0.0/8", "--lock-timeout", "1"]),
    ] {
        let begun = Instant::now();
        assert_refused(&scene.ctl.run(&args), 1, &said);
        ensure!(begun.elapsed() < Duration::from_secs(10), "{args:?}");
    }
    drop(lock);
    scene.ok(&["detach", "--lock-timeout", "1"]);
    Ok(())
}

fn a_reader_needs_no_lock() -> Tested {
    let scene = Scene::new("lockless")?;
    scene.ok(&["attach", "-i", "*"]);
    let Locked::Held(_lock) = DirLock::try_exclusive(scene.ctl.folder())? else {
        anyhow::bail!("the lock is held already");
    };
    let begun = Instant::now();
    assert_eq!(scene.ctl.json(&["list"]).as_array().map(Vec::len), Some(1));
    scene.ok(&["show"]);
    scene.ok(&["cidr", "list"]);
    scene.ctl.ok(&["status"]);
    ensure!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    Ok(())
}

fn readers_see_the_old_or_the_new_ranges() -> Tested {
    let scene = Scene::new("either")?;
    scene.ok(&["attach", "-i", "*"]);
    let files = [1, 2].map(|first| TempFile::new(&format!("either-{first}"), ranges(first)));
    scene.ok(&["cidr", "add", "--file", files[0].path()]);
    let id = scene.ctl.json(&["list"])[0]["cgroup_id"].as_u64().unwrap();
    let is_over = AtomicBool::new(false);
    let read = || -> Result<(usize, usize)> {
        let config = Reader::read(scene.ctl.folder(), |reader| {
            reader.config(&reader.pod(id, scene.ctl.folder())?)
        })?;
        let exclude = config.context("nothing is attached")?.exclude;
        let last = |number| {
            exclude
                .iter()
                .filter(|net| net.to_string().ends_with(number))
                .count()
        };
        Ok((last(".1/32"), last(".2/32")))
    };
    let seen = thread::scope(|scope| -> Result<_> {
        let reader = scope.spawn(|| -> Result<Vec<_>> {
            let mut seen = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                seen.push(read()?);
            }
            Ok(seen)
        });
        for file in files.iter().cycle().skip(1).take(6) {
            scene.ok(&["cidr", "replace", "--file", file.path()]);
        }
        is_over.store(true, Ordering::Relaxed);
        reader
            .join()
            .map_err(|_panic| anyhow::anyhow!("the reader panicked"))?
    })?;
    ensure!(seen.len() > 3, "only {} readings", seen.len());
    for ranges in seen {
        ensure!(ranges == (20_000, 0) || ranges == (0, 20_000), "{ranges:?}");
    }
    Ok(())
}
