//! The real program, called as a runtime calls it, with a scripted agent.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a test runs the program; a panic is how it fails"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::{self, JoinHandle},
};

use redirect_cni::{
    config::VERSIONS,
    protocol::{Operation, PROTOCOL, PluginRequest, PodRef, Response, SandboxRef},
};
use serde_json::{Value, json};

/// Makes socket names of this process unique.
static SERIAL: AtomicU32 = AtomicU32::new(0);

const POD_ARGS: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_UID=7-8";

/// The reaction of an agent to its one caller.
enum Script {
    Response(Response),
    HangUp,
    /// The agent waits for longer than the plugin does.
    Stall,
}

/// A socket, possibly with an agent behind it.
struct Agent {
    socket: PathBuf,
    received: Option<JoinHandle<PluginRequest>>,
}

impl Agent {
    fn down() -> Self {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("redirect-cni-{}-{serial}.sock", std::process::id());
        Self {
            socket: std::env::temp_dir().join(name),
            received: None,
        }
    }

    fn new(script: Script) -> Self {
        let mut agent = Self::down();
        let listener = UnixListener::bind(&agent.socket).expect("a socket");
        let received = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a caller");
            let mut line = String::new();
            BufReader::new(stream.try_clone().expect("a copy"))
                .read_line(&mut line)
                .expect("a line");
            match script {
                Script::Response(response) => {
                    let response = serde_json::to_string(&response).expect("JSON");
                    stream
                        .write_all(format!("{response}\n").as_bytes())
                        .expect("a reader");
                }
                Script::HangUp => {}
                Script::Stall => {
                    // The caller gives up first.
                    let left = stream.read(&mut [0]);
                    assert!(matches!(left, Ok(0)), "{left:?}");
                }
            }
            serde_json::from_str(&line).expect("a request")
        });
        agent.received = Some(received);
        agent
    }

    fn done() -> Self {
        Self::new(Script::Response(Response::Done))
    }

    fn failed(retry: bool) -> Self {
        let reason = "annotation x: bad".to_owned();
        Self::new(Script::Response(Response::Failed { reason, retry }))
    }

    /// The operation that a plugin asked for before it ended.
    fn received(&mut self) -> Operation {
        let received = self.received.take().expect("an agent");
        // If the plugin did not connect, the agent still waits for its caller, and gets no request from this
        // one.
        drop(UnixStream::connect(&self.socket));
        let request = received.join().expect("a request");
        assert_eq!(request.protocol, PROTOCOL);
        request.operation
    }

    fn config(&self, more: &Value) -> Value {
        let mut config = json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "type": "redirect-cni",
            "socket": self.socket,
            "timeoutSeconds": 1,
            "prevResult": previous(),
        });
        let more = more.as_object().expect("an object").clone();
        config.as_object_mut().expect("an object").extend(more);
        config
    }

    fn call(&self, command: &str, more: &Value) -> Ran {
        call(command, POD_ARGS, &self.config(more).to_string())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.socket));
    }
}

fn previous() -> Value {
    json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/n"}], "ips": [{"address": "10.1.0.5/24"}], "dns": {}})
}

struct Ran {
    success: bool,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect("JSON on standard output")
    }

    /// Code and text of the error.
    fn error(&self) -> (u64, String) {
        assert!(!self.success, "{}", self.stdout);
        let error = self.json();
        let part = |name| error.get(name).expect("three parts");
        let code = part("code").as_u64().expect("a number");
        (code, format!("{}: {}", part("msg"), part("details")))
    }
}

fn call(command: &str, args: &str, config: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_redirect-cni"))
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", "abc")
        .env(
            "CNI_NETNS",
            if command == "DEL" {
                ""
            } else {
                "/var/run/netns/x"
            },
        )
        .env("CNI_IFNAME", "eth0")
        .env("CNI_ARGS", args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the plugin");
    child
        .stdin
        .take()
        .expect("its input")
        .write_all(config.as_bytes())
        .expect("a reader");
    let output = child.wait_with_output().expect("its output");
    Ran {
        success: output.status.success(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

fn sandbox(netns: Option<&str>) -> SandboxRef {
    SandboxRef {
        container_id: "abc".to_owned(),
        netns: netns.map(Into::into),
        pod: Some(PodRef {
            namespace: "shop".to_owned(),
            name: "cart-0".to_owned(),
            uid: Some("7-8".to_owned()),
        }),
    }
}

#[test]
fn version_lists_the_supported_versions_and_others_are_refused() {
    // libcni sends its own newest version, whatever the plugin's is.
    for version in VERSIONS.into_iter().chain(["1.2.0"]) {
        let ran = call("VERSION", "", &json!({"cniVersion": version}).to_string());
        assert!(ran.success);
        let expected = json!({"cniVersion": version, "supportedVersions": VERSIONS});
        assert_eq!(ran.json(), expected);
    }
    for config in [
        r#"{"cniVersion": "0.2.0"}"#,
        r#"{"cniVersion": "2.0.0"}"#,
        "{}",
    ] {
        let ran = call("ADD", POD_ARGS, config);
        let (code, text) = ran.error();
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{text}");
    }
}

#[test]
fn an_unreadable_configuration_is_refused() {
    let rows = [
        ("", 6),
        ("[]", 6),
        (r#"{"cniVersion": "1.0.0", "failOpen": "yes"}"#, 6),
        (r#"{"cniVersion": "1.0.0"}"#, 7),
    ];
    for (config, expected) in rows {
        for command in ["ADD", "CHECK"] {
            let (code, text) = call(command, POD_ARGS, config).error();
            assert_eq!(code, expected, "{config}: {text}");
        }
    }
    let (code, text) = call("PLUG", POD_ARGS, "{}").error();
    assert_eq!(code, 4);
    assert!(text.contains("PLUG"), "{text}");
}

#[test]
fn add_asks_the_agent_and_passes_the_previous_result_on() {
    for version in VERSIONS {
        let responses = [
            Response::Done,
            Response::Skipped {
                reason: "no sidecar".to_owned(),
            },
        ];
        for response in responses {
            let mut agent = Agent::new(Script::Response(response));
            let ran = agent.call("ADD", &json!({"cniVersion": version}));
            assert!(ran.success && ran.stderr.is_empty(), "{}", ran.stderr);
            assert_eq!(ran.json(), previous());
            assert_eq!(
                agent.received(),
                Operation::Add(sandbox(Some("/var/run/netns/x")))
            );
        }
    }
}

#[test]
fn add_fails_for_a_pod_that_cannot_be_redirected() {
    for (retry, expected) in [(false, 100), (true, 11)] {
        let (code, text) = Agent::failed(retry).call("ADD", &json!({})).error();
        assert_eq!(code, expected);
        assert!(
            text.contains("pod shop/cart-0") && text.contains("annotation x: bad"),
            "{text}"
        );
    }
    let ran = Agent::failed(false).call("ADD", &json!({"failOpen": true}));
    assert!(ran.success && ran.json() == previous());
    assert!(
        ran.stderr.contains("pod shop/cart-0") && ran.stderr.contains("annotation x: bad"),
        "{}",
        ran.stderr
    );
}

#[test]
fn add_fails_without_an_agent() {
    let rows = [
        (Agent::down(), "no such socket"),
        (Agent::new(Script::HangUp), "closed the connection"),
        (Agent::new(Script::Stall), "did not answer in time"),
    ];
    for (agent, why) in rows {
        let (code, text) = agent.call("ADD", &json!({})).error();
        assert_eq!(code, 11);
        let socket = agent.socket.to_str().expect("UTF-8");
        assert!(text.contains(why) && text.contains(socket), "{text}");
    }
    let ran = Agent::down().call("ADD", &json!({"failOpen": true}));
    assert!(ran.success && ran.json() == previous());
    assert!(ran.stderr.contains("no such socket"), "{}", ran.stderr);
}

#[test]
fn the_agent_is_not_asked_about_pods_outside_the_mesh() {
    let excluded = json!({"excludeNamespaces": ["kube-system", "shop"]});
    for command in ["ADD", "CHECK", "DEL"] {
        // An agent that is asked would not answer.
        let agent = Agent::down();
        let no_pod = call(
            command,
            "IgnoreUnknown=1",
            &agent.config(&json!({})).to_string(),
        );
        for ran in [agent.call(command, &excluded), no_pod] {
            assert!(
                ran.success && ran.stderr.is_empty(),
                "{command}: {}{}",
                ran.stdout,
                ran.stderr
            );
            match command {
                "ADD" => assert_eq!(ran.json(), previous()),
                _ => assert_eq!(ran.stdout, ""),
            }
        }
    }
}

#[test]
fn del_never_fails() {
    let mut agent = Agent::done();
    let ran = agent.call("DEL", &json!({}));
    assert!(ran.success && ran.stdout.is_empty() && ran.stderr.is_empty());
    assert_eq!(agent.received(), Operation::Del(sandbox(None)));
    for agent in [
        Agent::down(),
        Agent::failed(true),
        Agent::new(Script::HangUp),
    ] {
        let ran = agent.call("DEL", &json!({"prevResult": null}));
        assert!(ran.success && ran.stdout.is_empty());
        assert!(
            ran.stderr.contains("ends with the pod's cgroup"),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn check_reports_the_reason() {
    let mut agent = Agent::done();
    let ran = agent.call("CHECK", &json!({}));
    assert!(ran.success && ran.stdout.is_empty());
    assert_eq!(
        agent.received(),
        Operation::Check(sandbox(Some("/var/run/netns/x")))
    );
    let (code, text) = Agent::failed(false).call("CHECK", &json!({})).error();
    assert!(code == 100 && text.contains("annotation x: bad"), "{text}");
    assert_eq!(Agent::down().call("CHECK", &json!({})).error().0, 11);
    // A pod that may start without redirection may also keep running without.
    for agent in [Agent::down(), Agent::failed(false), Agent::failed(true)] {
        let ran = agent.call("CHECK", &json!({"failOpen": true}));
        assert!(ran.success && ran.stdout.is_empty(), "{}", ran.stdout);
        assert!(
            ran.stderr.contains("check pod shop/cart-0: "),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn gc_passes_the_valid_sandboxes_on() {
    let mut agent = Agent::done();
    let valid =
        json!([{"containerID": "a", "ifname": "eth0"}, {"containerID": "b", "ifname": "eth0"}]);
    let ran = agent.call(
        "GC",
        &json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": valid}),
    );
    assert!(ran.success && ran.stdout.is_empty(), "{}", ran.stdout);
    let valid = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(agent.received(), Operation::Gc { valid });
    // An empty list, as libcni writes it.
    let none = json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": null});
    let mut agent = Agent::done();
    assert!(agent.call("GC", &none).success);
    assert_eq!(agent.received(), Operation::Gc { valid: Vec::new() });
    assert_eq!(Agent::down().call("GC", &none).error().0, 11);
    let open = json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": null, "failOpen": true});
    let ran = Agent::down().call("GC", &open);
    assert!(
        ran.success && ran.stderr.contains("(failOpen)"),
        "{}",
        ran.stderr
    );
    // Without a list no sandbox is removed, and the agent is not asked.
    let ran = Agent::down().call("GC", &json!({"cniVersion": "1.1.0"}));
    assert!(ran.success && ran.stdout.is_empty() && ran.stderr.is_empty());
}

#[test]
fn status_reports_whether_pods_can_be_added() {
    let mut agent = Agent::done();
    let ran = agent.call("STATUS", &json!({"cniVersion": "1.1.0"}));
    assert!(ran.success && ran.stdout.is_empty());
    assert_eq!(agent.received(), Operation::Status);
    for agent in [Agent::down(), Agent::failed(true)] {
        assert_eq!(
            agent
                .call("STATUS", &json!({"cniVersion": "1.1.0"}))
                .error()
                .0,
            50
        );
    }
    let ran = Agent::down().call("STATUS", &json!({"cniVersion": "1.1.0", "failOpen": true}));
    assert!(ran.success && ran.stderr.contains("no such socket"));
}

#[test]
fn help_explains_the_plugin() {
    let output = Command::new(env!("CARGO_BIN_EXE_redirect-cni"))
        .arg("--help")
        .output()
        .expect("the plugin");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success() && text.contains("conflist") && text.contains("1.1.0"));
}
