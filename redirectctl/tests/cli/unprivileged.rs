//! Without the right to do it: one message that names what is missing, before anything is done.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use redirect_testkit::cases;

use crate::{
    Cases,
    Needs::{self, PodsAnd},
    Tested,
    bad_input::assert_refused,
    ctl::{self, Args, BINARY},
    scene::Scene,
};

const SETPRIV: Needs = PodsAnd(&["setpriv"]);

pub(crate) const CASES: &[Cases] = cases! {
    SETPRIV => [
        root_without_capabilities_is_told_which,
        each_missing_capability_is_named,
        an_ordinary_user_is_told_what_is_missing,
    ],
};

const NOTHING: &[&str] = &["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
const READ: &[&str] = &["lacks CAP_BPF (to read the maps)", "as root"];
const WRITE: &[&str] = &["CAP_BPF (", "CAP_NET_ADMIN (", "CAP_PERFMON (", "as root"];

fn refuses_everything(scene: &Scene, prefix: &[&str], binary: &str) {
    let tree = scene.ctl.tree();
    let rows: &[(Args<'_>, i32, Args<'_>)] = &[
        (&["list"], 1, READ),
        (&["status"], 1, READ),
        (&scene.about(&["show"]), 1, READ),
        (&scene.about(&["rules"]), 1, READ),
        (
            &scene.about(&["explain", "--uid", "1", "--dst", "1.1.1.1:1"]),
            1,
            READ,
        ),
        (&scene.about(&["cidr", "list"]), 1, READ),
        (&scene.about(&["cidr", "add", "11.0.0.0/8"]), 1, WRITE),
        (&scene.about(&["attach", "-i", "*"]), 1, WRITE),
        (&scene.about(&["update", "-i", "*"]), 1, WRITE),
        (&scene.about(&["detach"]), 1, WRITE),
        (&["uninstall", "--yes"], 1, WRITE),
        (&["exec", "--", "true"], 125, WRITE),
    ];
    for (args, status, said) in rows {
        let argv = [prefix, &[binary, "--bpffs", scene.ctl.bpffs()], *args].concat();
        assert_refused(&ctl::run(&argv, &[], ""), *status, said);
    }
    assert_eq!(scene.ctl.tree(), tree);
    // What needs no right is given to anybody.
    for args in ["--help", "completions bash", "rules -i *"] {
        let words: Vec<_> = args.split(' ').collect();
        let ran = ctl::run(&[prefix, &[binary], &words].concat(), &[], "");
        assert!(!ran.ok().is_empty());
    }
}

fn root_without_capabilities_is_told_which() -> Tested {
    let scene = Scene::new("nocaps")?;
    scene.ok(&["attach", "-i", "*"]);
    refuses_everything(&scene, NOTHING, BINARY);
    assert_eq!(scene.answers()?, ["proxy"; 4]);
    Ok(())
}

/// With one of them missing, only that one is named.
fn each_missing_capability_is_named() -> Tested {
    let scene = Scene::new("onecap")?;
    for (capability, name) in [
        ("bpf", "CAP_BPF"),
        ("net_admin", "CAP_NET_ADMIN"),
        ("perfmon", "CAP_PERFMON"),
    ] {
        let bounding = format!("--bounding-set=-sys_admin,-{capability}");
        let argv = [
            &["setpriv", &bounding],
            &scene.ctl.argv(&scene.about(&["attach"]))[..],
        ]
        .concat();
        let ran = ctl::run(&argv, &[], "");
        assert_refused(&ran, 1, &[name]);
        assert_eq!(ran.stderr.matches("CAP_").count(), 1, "{ran:?}");
    }
    assert_eq!(scene.ctl.tree(), Vec::<String>::new());
    Ok(())
}

fn an_ordinary_user_is_told_what_is_missing() -> Tested {
    let scene = Scene::new("user")?;
    scene.ok(&["attach", "-i", "*"]);
    // Where the program was built, others may not be able to look.
    let copy = Copied::new(&scene);
    let prefix = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"];
    refuses_everything(&scene, &prefix, copy.0.to_str().unwrap());
    assert_eq!(scene.answers()?, ["proxy"; 4]);
    Ok(())
}

/// The program in a folder that everybody can read.
struct Copied(PathBuf);

impl Copied {
    fn new(scene: &Scene) -> Self {
        let copy = Self(Path::new("/tmp").join(scene.pod.name()));
        fs::copy(BINARY, &copy.0).unwrap();
        fs::set_permissions(&copy.0, fs::Permissions::from_mode(0o755)).unwrap();
        copy
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}
