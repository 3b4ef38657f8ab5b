//! A refusal: one message, the documented exit status, and no change.

use anyhow::Result;
use redirect_testkit::Cgroup;

use crate::{
    ctl::{CommandOutput, Ctl},
    scene::Scene,
};

/// A command line, and the parts of standard error. `POD` stands for an attached cgroup, `FREE` for one that is not
/// attached.
pub(super) type Row<'a> = (&'a [&'a str], &'a [&'a str]);

/// One attached pod, and a second cgroup that is not attached.
pub(super) struct InputScene {
    scene: Scene,
    pub(super) free: Cgroup,
}

impl InputScene {
    pub(super) fn new(name: &str) -> Result<Self> {
        let scene = Scene::new(name)?;
        scene.ok(&["attach", "-i", "*", "-x", "10.0.0.0/8"]);
        let free = scene.pod.second_cgroup("free")?;
        Ok(Self { scene, free })
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let free = self.free.path().to_str().unwrap();
        let fill = |word: &&'a str| match *word {
            "POD" => self.scene.cgroup(),
            "FREE" => free,
            other => other,
        };
        args.iter().map(fill).collect()
    }

    pub(super) fn refuses(&self, rows: &[Row<'_>], status: i32) {
        for (args, expected) in rows {
            self.refuses_one(&[], args, expected, status);
        }
    }

    pub(super) fn refuses_one(
        &self,
        variables: &[(&str, &str)],
        args: &[&str],
        expected: &[&str],
        status: i32,
    ) {
        let ctl = &self.scene.ctl;
        let before = state(ctl);
        let ran = ctl.run_with(&self.args(args), variables);
        assert_refused(&ran, status, expected);
        assert_eq!(state(ctl), before, "{} changed something", ran.line);
    }
}

fn state(ctl: &Ctl) -> (String, Vec<String>) {
    (ctl.ok(&["list", "--output", "json"]), ctl.tree())
}

/// Asserts one message with these parts, and without the traces that only a developer wants to see.
#[track_caller]
pub(crate) fn assert_refused(ran: &CommandOutput, status: i32, expected: &[&str]) {
    assert_eq!(ran.status, Some(status), "{ran:?}");
    assert_eq!(ran.stderr.matches("error:").count(), 1, "{ran:?}");
    assert!(
        ran.stderr.starts_with("error: ") && ran.stdout.is_empty(),
        "{ran:?}"
    );
    for part in expected {
        assert!(ran.stderr.contains(part), "no {part:?}: {ran:?}");
    }
    for noise in ["panicked", "backtrace", "Caused by", "Some(", "Err("] {
        assert!(!ran.stderr.contains(noise), "{ran:?}");
    }
}
