//! A Kubernetes API server, its etcd and a kubelet, for the long tests. Debian 12 has a package of etcd, and only the
//! source of the others.
//!
//! Go and all packages are unpacked in a folder that is removed afterwards. No package is installed.

use std::{
    env, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{apt_index::AptIndex, debian::is_debian, part::Part, purpose::Purpose};
use crate::{cache, command, workspace::is_root};

const VERSION: &str = "1.20.2";
/// The Debian release that has this version and its dependencies. Later releases have only the client.
const RELEASE: &str = "bookworm";
/// The packages that are unpacked.
const PACKAGES: [&str; 4] = [
    "golang-1.19-go",
    "golang-1.19-src",
    "etcd-server",
    "golang-github-modern-go-reflect2-dev",
];
/// A library that reads internals of the Go runtime. The source has 1.0.1, which crashes now and then if it is built
/// with Go 1.18 or later. Debian's package has 1.0.2.
const LIBRARY: &str = "github.com/modern-go/reflect2";
/// The programs that are built.
const PROGRAMS: [&str; 2] = ["kube-apiserver", "kubelet"];
/// Leaves out the libraries of clouds and of Docker, which the tests do not need.
const TAGS: &str = "-tags=providerless,dockerless";
/// The variable that names a folder with other programs. The tests look there first.
const VARIABLE: &str = "KUBEBUILDER_ASSETS";

/// Kubernetes, as a part.
pub(crate) struct Kubernetes;

impl Part for Kubernetes {
    fn name(&self) -> &'static str {
        "Kubernetes"
    }

    fn serves(&self, purpose: Purpose) -> bool {
        matches!(purpose, Purpose::Soak | Purpose::All)
    }

    fn found(&self) -> Result<Option<String>> {
        if let Some(folder) = env::var_os(VARIABLE) {
            return Ok(Some(PathBuf::from(folder).display().to_string()));
        }
        Ok(folder().exists().then(describe))
    }

    fn install(&self) -> Result<String> {
        if !is_debian() || !is_root() {
            bail!(
                "build Kubernetes {VERSION}: that takes Debian's apt-get and root: run it as root on Debian 12, or set \
                 {VARIABLE} to a folder with kube-apiserver, kubelet and etcd"
            );
        }
        let _lock = cache::lock("kubernetes")?;
        // Another set-up may have built it while this one waited.
        if !folder().exists() {
            let build = Build(Path::new(cache::SHARED).join("kubernetes.build"));
            build.clear()?;
            let built = build.make();
            // The folder has 1.6 GB, and is of no use if the build failed.
            build.clear()?;
            built?;
        }
        Ok(describe())
    }
}

/// The folder of the programs. It exists only if it is complete.
fn folder() -> PathBuf {
    Path::new(cache::SHARED).join(format!("kubernetes-{VERSION}"))
}

fn describe() -> String {
    format!("{VERSION}: {}", folder().display())
}

/// The folder of the build.
struct Build(PathBuf);

impl Build {
    fn clear(&self) -> Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(err) if err.kind() != ErrorKind::NotFound => {
                Err(err).with_context(|| format!("remove {}", self.0.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn make(&self) -> Result<()> {
        self.fetch()?;
        self.replace_library()?;
        self.generate()?;
        let version = "k8s.io/kubernetes/vendor/k8s.io/component-base/version.gitVersion";
        let flags = format!("-ldflags=-s -w -X {version}=v{VERSION}");
        let programs = self.0.join("programs");
        for program in PROGRAMS {
            let built = programs.join(program);
            let args = [TAGS, &flags, "-o"];
            command::install(
                self.go("build")
                    .args(args)
                    .arg(&built)
                    .arg(format!("./cmd/{program}")),
            )?;
            let said = command::output(Command::new(&built).arg("--version"))?;
            ensure!(
                said.trim() == format!("Kubernetes v{VERSION}"),
                "check {program}: it is not version {VERSION}: {}",
                said.trim()
            );
        }
        let etcd = programs.join("etcd");
        fs::copy(self.0.join("root/usr/bin/etcd"), &etcd).context("copy etcd")?;
        command::output(Command::new(&etcd).arg("--version"))?;
        fs::rename(&programs, folder()).context("move Kubernetes to its place")
    }

    /// Fetches everything from Debian's archive, with a separate index: the system's index is not touched.
    fn fetch(&self) -> Result<()> {
        let sources = self.0.join("go/src/k8s.io");
        fs::create_dir_all(&sources).with_context(|| format!("create {}", sources.display()))?;
        let index = AptIndex::make(&self.0, &[("deb", RELEASE), ("deb-src", RELEASE)])?;
        let mut download = index.apt("apt-get");
        command::install(download.arg("download").args(PACKAGES))?;
        let mut download = index.apt("apt-get");
        command::install(download.args(["source", "--download-only", "kubernetes"]))?;
        for package in self.files_with("deb")? {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("--extract").arg(package);
            command::install(unpack.arg(self.0.join("root")))?;
        }
        for source in self.files_with("dsc")? {
            // apt has compared the file with the signed index.
            let mut unpack = Command::new("dpkg-source");
            unpack.args(["--no-check", "--extract"]).arg(source);
            command::install(unpack.arg(self.source()))?;
        }
        Ok(())
    }

    fn replace_library(&self) -> Result<()> {
        let library = self.source().join("vendor").join(LIBRARY);
        fs::remove_dir_all(&library).with_context(|| format!("remove {}", library.display()))?;
        let packaged = self.0.join("root/usr/share/gocode/src").join(LIBRARY);
        fs::rename(packaged, &library)
            .with_context(|| format!("move the library to {}", library.display()))
    }

    /// Generates the description of the API, which the source lacks. The server needs it for every type that it serves
    /// (`KUBE_OPENAPI_DIRS` in its `Makefile.generated_files`).
    fn generate(&self) -> Result<()> {
        let mut find = Command::new("grep");
        find.args(["-rl", "--include=*.go", "+k8s:openapi-gen="])
            .args(["pkg", "staging/src/k8s.io"])
            .current_dir(self.source());
        let files = command::output(&mut find)?;
        let mut packages: Vec<String> = files
            .lines()
            .map(|file| file.replace("staging/src/", "vendor/"))
            .filter(|file| {
                !file.contains("/code-generator/") && !file.contains("/sample-apiserver/")
            })
            .filter_map(|file| Some(format!("k8s.io/kubernetes/{}", file.rsplit_once('/')?.0)))
            .collect();
        packages.sort_unstable();
        packages.dedup();
        let generate = ["run", "./vendor/k8s.io/kube-openapi/cmd/openapi-gen"];
        let into = "k8s.io/kubernetes/pkg/generated/openapi";
        let licence = "vendor/k8s.io/code-generator/hack/boilerplate.go.txt";
        let mut generator = self.go(generate[0]);
        generator
            .arg(generate[1])
            .args(["-i", &packages.join(","), "-p", into, "-h", licence])
            .args(["-O", "zz_generated.openapi", "-r"])
            .arg(self.0.join("violations"));
        command::install(&mut generator)
    }

    fn source(&self) -> PathBuf {
        self.0.join("go/src/k8s.io/kubernetes")
    }

    fn files_with(&self, extension: &str) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path.extension().is_some_and(|found| found == extension) {
                files.push(path);
            }
        }
        Ok(files)
    }

    /// Go from the unpacked packages, run in the source, which is older than Go modules.
    fn go(&self, subcommand: &str) -> Command {
        let root = self.0.join("root/usr/lib/go-1.19");
        let mut go = Command::new(root.join("bin/go"));
        go.current_dir(self.source())
            .env("GOROOT", &root)
            .env("GOPATH", self.0.join("go"))
            .env("GOCACHE", self.0.join("cache"))
            .env("GO111MODULE", "off")
            .env("CGO_ENABLED", "0")
            .env_remove("GOFLAGS")
            .arg(subcommand);
        go
    }
}
