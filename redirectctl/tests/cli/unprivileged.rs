//! Commands without privileges: one message names the missing capability, before anything is changed.

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
        root_without_capabilities_gets_their_names,
        each_missing_capability_is_named,
        an_ordinary_user_gets_the_missing_capabilities,
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
        (&scene.with_cgroup(&["show"]), 1, READ),
        (&scene.with_cgroup(&["rules"]), 1, READ),
        (
            &scene.with_cgroup(&["explain", "--uid", "1", "--dst", "1.1.1.1:1"]),
            1,
            READ,
        ),
        (&scene.with_cgroup(&["cidr", "list"]), 1, READ),
        (&scene.with_cgroup(&["cidr", "add", "11.0.0.0/8"]), 1, WRITE),
        (&scene.with_cgroup(&["attach", "-i", "*"]), 1, WRITE),
        (&scene.with_cgroup(&["update", "-i", "*"]), 1, WRITE),
        (&scene.with_cgroup(&["detach"]), 1, WRITE),
        (&["uninstall", "--yes"], 1, WRITE),
        (&["exec", "--", "true"], 125, WRITE),
    ];
    for (args, status, said) in rows {
        let argv = [prefix, &[binary, "--bpffs", scene.ctl.bpffs()], *args].concat();
        assert_refused(&ctl::run(&argv, &[], ""), *status, said);
    }
    assert_eq!(scene.ctl.tree(), tree);
    // Commands without privileged work succeed.
    for args in ["--help", "completions bash", "rules -i *"] {
        let words: Vec<_> = args.split(' ').collect();
        let ran = ctl::run(&[prefix, &[binary], &words].concat(), &[], "");
        assert!(!ran.ok().is_empty());
    }
}

fn root_without_capabilities_gets_their_names() -> Tested {
    let scene = Scene::new("nocaps")?;
    scene.ok(&["attach", "-i", "*"]);
    refuses_everything(&scene, NOTHING, BINARY);
    assert_eq!(scene.answers()?, ["proxy"; 4]);
    Ok(())
}

/// If one capability is missing, only that one is named.
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
            &scene.ctl.argv(&scene.with_cgroup(&["attach"]))[..],
        ]
        .concat();
        let ran = ctl::run(&argv, &[], "");
        assert_refused(&ran, 1, &[name]);
        assert_eq!(ran.stderr.matches("CAP_").count(), 1, "{ran:?}");
    }
    assert_eq!(scene.ctl.tree(), Vec::<String>::new());
    Ok(())
}

fn an_ordinary_user_gets_the_missing_capabilities() -> Tested {
    let scene = Scene::new("user")?;
    scene.ok(&["attach", "-i", "*"]);
    // Other users may have no access to the build folder.
    let copy = Copied::new(&scene);
    let prefix = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"];
    refuses_everything(&scene, &prefix, copy.0.to_str().unwrap());
    assert_eq!(scene.answers()?, ["proxy"; 4]);
    Ok(())
}

/// A copy of the program in a folder that all users can read.
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
