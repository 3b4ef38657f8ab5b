//! The source of files.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures_util::FutureExt as _;
use redirect_agent::{
    cgroup_ref::CgroupRef,
    source::{FileSource, Source as _, SourceEvent},
};
use redirect_user::config::RedirectConfig;
use tokio::time::timeout;

use crate::contract::{self, SourceFixture};

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A folder, removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("redirect-source-{}-{serial}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.yaml"))
    }

    /// Replaces a file atomically, as careful editors do.
    fn replace(&self, name: &str, text: &str) {
        let half = self.0.join(format!(".{name}.new"));
        fs::write(&half, text).unwrap();
        fs::rename(&half, self.file(name)).unwrap();
    }

    fn aside(&self) -> PathBuf {
        self.0.with_extension("aside")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
        fs::remove_dir_all(self.aside()).unwrap_or_default();
    }
}

fn text(name: &str, port: u16) -> String {
    format!("cgroup: /sys/fs/cgroup/{name}\nargs: [-p, {port}, -i, '*']\n")
}

impl SourceFixture for Folder {
    type Source = FileSource;

    fn source(&self) -> FileSource {
        FileSource::new(&self.0)
    }

    fn describe(&self, name: &str, port: u16) {
        self.replace(name, &text(name, port));
    }

    fn describe_invalid(&self, name: &str) {
        self.replace(name, "cgroup: [");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }

    fn make_unavailable(&self) {
        fs::rename(&self.0, self.aside()).unwrap();
    }

    fn restore(&self) {
        fs::rename(self.aside(), &self.0).unwrap();
    }

    fn port(config: &RedirectConfig) -> u16 {
        config.out_port
    }
}

#[tokio::test]
async fn the_contract_is_kept() {
    contract::begins_with_a_snapshot(&Folder::new()).await;
    contract::reports_every_change(&Folder::new()).await;
    contract::names_invalid_descriptions(&Folder::new()).await;
    contract::keeps_descriptions_while_unavailable(&Folder::new()).await;
    contract::loses_nothing_when_cancelled(&Folder::new()).await;
}

/// A source that has sent its snapshot.
async fn begun(folder: &Folder) -> FileSource {
    let mut source = folder.source();
    assert!(matches!(source.next().await, SourceEvent::Snapshot(_)));
    source
}

async fn next(source: &mut FileSource) -> SourceEvent {
    timeout(Duration::from_secs(20), source.next())
        .await
        .unwrap()
}

/// The port of a changed workload, or the problem of an invalid one.
fn port(event: &SourceEvent) -> Result<u16, String> {
    match event {
        SourceEvent::Changed(workload) => workload
            .policy
            .as_ref()
            .map(|policy| policy.config.out_port)
            .map_err(Clone::clone),
        other @ (SourceEvent::Snapshot(_)
        | SourceEvent::Removed(_)
        | SourceEvent::Unavailable(_)) => {
            panic!("{other:?}")
        }
    }
}

#[tokio::test]
async fn a_file_is_read_when_it_is_closed_and_not_before() {
    let folder = Folder::new();
    folder.describe("one", 15001);
    let mut source = begun(&folder).await;
    let mut file = File::create(folder.file("one")).unwrap();
    file.write_all(b"cgroup: /sys/fs/cgroup/one\nargs: [-i, '*', -x, 10.0.0.0/8,")
        .unwrap();
    let mut other = File::create(folder.file("other")).unwrap();
    other.write_all(b"cgroup: /sys/fs").unwrap();
    // Another change has the whole folder read again in the meantime.
    folder.describe("two", 15002);
    assert_eq!(port(&next(&mut source).await), Ok(15002));
    file.write_all(b" -p, 15003]\n").unwrap();
    drop(file);
    assert_eq!(port(&next(&mut source).await), Ok(15003));
    other
        .write_all(b"/cgroup/other\nargs: [-p, 15004]")
        .unwrap();
    drop(other);
    assert_eq!(port(&next(&mut source).await), Ok(15004));
}

#[tokio::test]
async fn an_editor_that_moves_the_old_file_away_first_removes_nothing() {
    let folder = Folder::new();
    folder.describe("one", 15001);
    let mut source = begun(&folder).await;
    for port_now in 15002..15012 {
        fs::rename(folder.file("one"), folder.0.join("one.yaml~")).unwrap();
        fs::write(folder.file("one"), text("one", port_now)).unwrap();
        assert_eq!(port(&next(&mut source).await), Ok(port_now));
    }
}

/// The two names are never reported as two files for one cgroup, of which neither could be used.
#[tokio::test]
async fn a_renamed_file_is_reported_at_once() {
    let folder = Folder::new();
    folder.describe("one", 15001);
    let mut source = begun(&folder).await;
    fs::rename(folder.file("one"), folder.file("two")).unwrap();
    // The workload is never missing.
    assert_eq!(port(&next(&mut source).await), Ok(15001));
    let removed = source.next().now_or_never();
    assert!(
        matches!(&removed, Some(SourceEvent::Removed(id)) if id.key == "one.yaml"),
        "{removed:?}"
    );
}

#[tokio::test]
async fn only_workload_files_are_read() {
    let folder = Folder::new();
    for name in [".hidden.yaml", "one.yaml~", "README.md", "one.yaml.swp"] {
        fs::write(folder.0.join(name), "nonsense: [").unwrap();
    }
    fs::create_dir(folder.0.join("folder.yaml")).unwrap();
    fs::write(folder.0.join("two.json"), "{\"unit\": \"two.service\"}").unwrap();
    fs::write(folder.0.join("bad.yaml"), [0xff, 0xfe]).unwrap();
    let SourceEvent::Snapshot(workloads) = folder.source().next().await else {
        panic!("no snapshot");
    };
    let [bad, two] = workloads.as_slice() else {
        panic!("{workloads:?}");
    };
    assert_eq!(
        (two.name.as_str(), &two.cgroup),
        ("two", &Some(CgroupRef::Unit("two.service".to_owned())))
    );
    assert!(two.policy.is_ok());
    let error = bad.policy.clone().unwrap_err();
    assert!(error.contains("bad.yaml\": read the file: "), "{error}");
}

#[tokio::test]
async fn a_problem_is_reported_with_file_key_and_value() {
    let folder = Folder::new();
    let mut source = begun(&folder).await;
    folder.replace(
        "shop",
        "unit: shop.service\nargs: [-i, '*', -x, 36.152.44.0/33]\n",
    );
    let error = port(&next(&mut source).await).unwrap_err();
    let path = folder.file("shop");
    let expected = format!(
        "\"{}\": args: parse -x/--istio-service-exclude-cidr \"36.152.44.0/33\": ",
        path.display()
    );
    assert!(error.starts_with(&expected), "{error}");
    assert!(!error.contains('\n'), "{error}");
}
