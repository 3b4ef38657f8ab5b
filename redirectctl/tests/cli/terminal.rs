//! Output on a terminal: 80 columns are enough, and only there are colours.

use redirect_testkit::cases;

use crate::{
    Cases,
    Needs::PodsAnd,
    Tested,
    ctl::{self, Args},
    scene::Scene,
};

/// The program that runs another one on a terminal of its own.
const PROGRAMS: &[&str] = &["script", "stty"];

pub(crate) const CASES: &[Cases] = cases! {
    PodsAnd(PROGRAMS) => [
        tables_fit_a_terminal_of_eighty_columns,
        colours_are_for_a_terminal_that_wants_them,
    ],
};

/// Runs a command line on a terminal of 80 columns; its output, with lines as a file has them.
fn on_a_terminal(scene: &Scene, args: &[&str], variables: &[(&str, &str)]) -> String {
    let quoted: Vec<_> = scene
        .ctl
        .argv(args)
        .iter()
        .map(|word| format!("'{word}'"))
        .collect();
    let line = format!("stty cols 80; {}", quoted.join(" "));
    let argv = [
        "script",
        "--quiet",
        "--return",
        "--command",
        &line,
        "/dev/null",
    ];
    ctl::run(&argv, variables, "").ok().replace("\r\n", "\n")
}

/// A line without the escape sequences of colours.
fn plain(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once('m').map_or("", |(_, rest)| rest)
    })
}

fn tables_fit_a_terminal_of_eighty_columns() -> Tested {
    let scene = Scene::new("a-name-that-makes-the-path-of-the-cgroup-longer")?;
    scene.ok(&["attach", "-i", "*", "-x", "10.0.0.0/8", "-b", "*"]);
    scene.answers()?;
    let explain = ["explain", "--uid", "1000", "--dst", "36.152.44.96:80"];
    let commands: &[Args<'_>] = &[
        &["list"],
        &["status"],
        &["doctor"],
        &["doctor", "--verbose"],
        &scene.with_cgroup(&["show"]),
        &scene.with_cgroup(&["rules"]),
        &scene.with_cgroup(&explain),
        &["--help"],
        &["attach", "--help"],
        &["update", "-h"],
        &["exec", "--help"],
        &["parity", "--help"],
        &["cidr", "replace", "--help"],
        &["proxy", "--help"],
    ];
    for args in commands {
        let text = on_a_terminal(&scene, args, &[]);
        for line in text.lines().map(plain) {
            // Text in quotes is a path, which a person may want to copy whole.
            assert!(
                line.chars().count() <= 80 || line.contains('"'),
                "{args:?}: {line}"
            );
        }
    }
    let list = on_a_terminal(&scene, &["list"], &[]);
    assert!(list.contains('…'), "{list}");
    // A pipe gets the whole path.
    assert!(scene.ctl.ok(&["list"]).contains(scene.cgroup()));
    Ok(())
}

fn colours_are_for_a_terminal_that_wants_them() -> Tested {
    let scene = Scene::new("colours")?;
    scene.ok(&["attach", "-i", "*"]);
    let show = scene.with_cgroup(&["show"]);
    assert!(on_a_terminal(&scene, &show, &[]).contains('\u{1b}'));
    assert!(!on_a_terminal(&scene, &show, &[("NO_COLOR", "1")]).contains('\u{1b}'));
    assert!(!scene.ctl.ok(&show).contains('\u{1b}'));
    Ok(())
}
