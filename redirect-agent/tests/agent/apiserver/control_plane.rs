//! A real API server and its etcd, on loopback, with nothing in them but the objects of a test.
#![expect(
    clippy::disallowed_methods,
    reason = "programs are started as an operator starts them"
)]

use std::{
    env,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio, id},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::wait_until;
use serde_json::{Value, json};

use super::api::Api;
use crate::agent_process::{DYING, entering, in_network};

/// Directory of the programs, as `cargo xtask setup` installs them.
const INSTALLED: &str = "/var/cache/redirect-ebpf/kubernetes-1.20.2";
/// Variable with another directory of `kube-apiserver`, `kubelet` and `etcd`, as used elsewhere.
const VARIABLE: &str = "KUBEBUILDER_ASSETS";
/// Longer than an API server takes to start, which is three seconds.
const STARTING: Duration = Duration::from_mins(2);
/// Token of the administrator.
pub(crate) const TOKEN: &str = "administrator";
/// Logs every request, when it arrives and when it is answered.
const AUDITED: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n";

pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let folder = env::var_os(VARIABLE).map_or_else(|| PathBuf::from(INSTALLED), PathBuf::from);
    let program = folder.join(name);
    ensure!(
        program.is_file(),
        "no {}: run `cargo xtask setup --for soak`, or set {VARIABLE} to a folder with {name}",
        program.display()
    );
    Ok(program)
}

/// Both programs, and their data; dropping it removes everything.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    server: Option<Running>,
    _etcd: Running,
    storage: u16,
    port: u16,
    /// Name of their network namespace, if that is not this process's.
    network: Option<String>,
    /// Dropped last: the programs write to it.
    folder: Folder,
}

impl ControlPlane {
    /// Starts both. `name` is unique among the tests.
    pub(crate) fn start(name: &str) -> Result<Self> {
        Self::on(name, None)
    }

    /// Starts both on the loopback of a network namespace.
    pub(crate) fn in_netns(name: &str, network: &str) -> Result<Self> {
        Self::on(name, Some(network))
    }

    fn on(name: &str, network: Option<&str>) -> Result<Self> {
        let unique = format!("redirect-agent-test-{}-{name}-api", id());
        let folder = Folder(env::temp_dir().join(unique));
        fs::create_dir_all(&folder.0)?;
        // The bearer of the token is an administrator, whatever roles there are.
        let users = format!("{TOKEN},administrator,0,system:masters\n");
        fs::write(folder.0.join("users"), users)?;
        fs::write(folder.0.join("audited.yaml"), AUDITED)?;
        let [storage, peers, port] = in_network(network, free_ports)??;
        let url = |port| format!("http://127.0.0.1:{port}");
        let etcd = Running::start(
            "etcd",
            &folder.0,
            network,
            &[
                "--data-dir=etcd".to_owned(),
                format!("--listen-client-urls={}", url(storage)),
                format!("--advertise-client-urls={}", url(storage)),
                format!("--listen-peer-urls={}", url(peers)),
                format!("--initial-advertise-peer-urls={}", url(peers)),
                format!("--initial-cluster=default={}", url(peers)),
            ],
        )?;
        let mut plane = Self {
            server: None,
            _etcd: etcd,
            storage,
            port,
            network: network.map(str::to_owned),
            folder,
        };
        plane.up(&[])?;
        Ok(plane)
    }

    /// Starts the API server with further arguments, and waits until it is ready.
    pub(crate) fn up(&mut self, more: &[&str]) -> Result<()> {
        // The API server creates the key itself.
        let key = "certificates/apiserver.key";
        let mut args = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.storage),
            format!("--secure-port={}", self.port),
        ];
        let own = [
            "--bind-address=127.0.0.1",
            "--cert-dir=certificates",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--token-auth-file=users",
            "--authorization-mode=RBAC",
            "--audit-policy-file=audited.yaml",
            "--audit-log-path=audit",
            "--service-account-issuer=https://kubernetes.default.svc",
            // No controller creates service accounts for namespaces here.
            "--disable-admission-plugins=ServiceAccount",
        ];
        args.extend(own.iter().chain(more).map(|&arg| arg.to_owned()));
        args.push(format!("--service-account-key-file={key}"));
        args.push(format!("--service-account-signing-key-file={key}"));
        self.server = Some(Running::start(
            "kube-apiserver",
            &self.folder.0,
            self.network.as_deref(),
            &args,
        )?);
        let is_ready = || {
            let api = self.administrator();
            api.is_ok_and(|api| api.text("/readyz").is_ok_and(|said| said == "ok"))
        };
        let is_up = wait_until(STARTING, is_ready);
        ensure!(is_up, "start kube-apiserver: {}", self.log());
        Ok(())
    }

    /// Kills the API server.
    pub(crate) fn down(&mut self) {
        self.server = None;
    }

    /// Port of its loopback address.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The server's certificate, for clients.
    pub(crate) fn authority(&self) -> Result<String> {
        Ok(fs::read_to_string(self.authority_file())?)
    }

    fn authority_file(&self) -> PathBuf {
        self.folder.0.join("certificates/apiserver.crt")
    }

    /// A client with all rights.
    pub(crate) fn administrator(&self) -> Result<Api> {
        let config = self.folder.0.join("kubeconfig");
        fs::write(&config, self.kubeconfig(TOKEN))?;
        Api::in_netns(self.network.clone(), &config)
    }

    /// A kubeconfig with this token.
    pub(crate) fn kubeconfig(&self, token: &str) -> String {
        let authority = self.authority_file();
        let server = format!("https://127.0.0.1:{}", self.port);
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": server, "certificate-authority": authority,
            }}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        })
        .to_string()
    }

    /// The audit log of a user's requests: one line when a request arrives (`RequestReceived`), and one when
    /// it has been answered, which for a watch is its end.
    pub(crate) fn audit(&self, user: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.folder.0.join("audit")).unwrap_or_default();
        let lines = log.lines().map(serde_json::from_str::<Value>);
        lines
            .filter_map(Result::ok)
            .filter(|line| line["user"]["username"] == user)
            .collect()
    }

    /// Removes everything but the current state from etcd.
    pub(crate) fn compact(&self) -> Result<()> {
        // Any key will do: only the revision is used.
        let now = self.etcd("/v3/kv/range", &json!({"key": "AA=="}))?;
        let revision = now["header"]["revision"].as_str().context("a revision")?;
        let compaction = json!({"revision": revision, "physical": true});
        self.etcd("/v3/kv/compaction", &compaction)?;
        Ok(())
    }

    fn etcd(&self, path: &str, body: &Value) -> Result<Value> {
        let body = body.to_string();
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, self.storage));
        let mut stream = in_network(self.network.as_deref(), connect)??;
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.0\r\nHost: etcd\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(format!("{head}{body}").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        ensure!(head.contains(" 200 "), "etcd says: {answer}");
        Ok(serde_json::from_str(body)?)
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.0.join("kube-apiserver.log"));
        log.unwrap_or_default()
    }
}

#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// A running program; killed when dropped.
#[derive(Debug)]
struct Running(Child);

impl Running {
    /// Starts a program in this directory, with its log there.
    fn start(name: &str, folder: &Path, network: Option<&str>, args: &[String]) -> Result<Self> {
        let log = File::create(folder.join(format!("{name}.log")))?;
        let child = Command::new("setpriv")
            .args(DYING)
            .args(entering(network))
            .arg(program(name)?)
            .args(args)
            .env_clear()
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self(child))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the process has ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Ports that are free at the moment.
fn free_ports() -> Result<[u16; 3]> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let taken = [listen()?, listen()?, listen()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&taken) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
