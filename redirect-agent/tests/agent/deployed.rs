//! The containers of `deploy/redirect-agent.yaml`: their privileges are sufficient, and none is superfluous.
#![expect(
    clippy::disallowed_methods,
    reason = "the program under test is run as a container runtime runs it"
)]

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use redirect_testkit::{Dial, Identity, Pod, Serve, cases, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    Cases, Needs, Tested,
    agent_process::{BINARY, DYING, LONG},
    kube::KubeNode,
    runtime::plugin,
    scene::Scene,
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        the_agents_container_has_enough_privileges,
        the_agents_container_needs_each_of_its_capabilities,
        the_installer_needs_no_capability_and_keeps_running,
    ],
};

/// A container of the daemonset.
struct Deployed(Value);

impl Deployed {
    fn container(name: &str) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = fs::read_to_string(root.join("deploy/redirect-agent.yaml"))?;
        for document in text.split("\n---\n") {
            let document: Value = serde_saphyr::from_str(document)?;
            let containers = document["spec"]["template"]["spec"]["containers"].as_array();
            let mut containers = containers.into_iter().flatten();
            if let Some(found) = containers.find(|container| container["name"] == name) {
                return Ok(Self(found.clone()));
            }
        }
        bail!("no container {name}")
    }

    /// Its capabilities, in the spelling of setpriv.
    fn capabilities(&self) -> Vec<String> {
        let added = self.0["securityContext"]["capabilities"]["add"].as_array();
        let added = added.into_iter().flatten().filter_map(Value::as_str);
        added.map(str::to_lowercase).collect()
    }

    /// Paths of its probes.
    fn probes(&self) -> Vec<String> {
        let probes = ["livenessProbe", "readinessProbe"].map(|probe| &self.0[probe]);
        let paths = probes.map(|probe| probe["httpGet"]["path"].as_str().unwrap_or_default());
        paths.map(str::to_owned).to_vec()
    }
}

/// Arguments of setpriv for root with these capabilities only.
fn only(capabilities: &[String]) -> Vec<String> {
    let added = capabilities.iter().map(|name| format!(",+{name}"));
    vec![
        format!("--bounding-set=-all{}", added.collect::<String>()),
        "--inh-caps=-all".to_owned(),
        "--no-new-privs".to_owned(),
    ]
}

fn address(text: &str) -> Result<SocketAddr> {
    Ok(text.parse()?)
}

fn the_agents_container_has_enough_privileges() -> Tested {
    let deployed = Deployed::container("agent")?;
    let kube = KubeNode::new("deployed")?;
    let shop = Scene::of(Pod::in_kubepods("shop", "deployed-1")?)?;
    // The proxy listens before the agent starts, as another user than the agent.
    let proxy = shop.pod.worker(&Identity::proxy())?;
    proxy.serve(&Serve::new("in", address("0.0.0.0:15006")?))?;
    let service = address("10.77.0.2:8080")?;
    shop.app.serve(&Serve::new("app", service))?;
    kube.put("deployed-1", &json!({}));
    let socket = kube.node.socket().display().to_string();
    let agent = kube.start_under(&only(&deployed.capabilities()), &["--cni-socket", &socket]);
    agent.until_ready();
    ensure!(shop.reached()? == "old", "{}", agent.log());
    let redirected = agent.metric("redirect_connections_total", &["rule=\"any-included\""]);
    ensure!(redirected == 1, "{redirected}");
    let outside = shop.pod.world().worker(&Identity::root())?;
    let dialled = outside.dial(&Dial::to(service))?;
    let banner = dialled.banner().context("an answer")?;
    ensure!(banner.server == "in" && banner.orig_dst == Some(service));
    // The probe of Istio's container `istio-validation`: it has the proxy's user, listens at both ports, and
    // dials this address.
    let probe = address("127.0.0.6:15002")?;
    let dialled = proxy.dial(&Dial::to(probe).from(address("127.0.0.1:0")?))?;
    let banner = dialled.banner().context("an answer")?;
    ensure!(banner.server == "in" && banner.orig_dst == Some(probe));
    // A pod without a process.
    let pod = Pod::in_kubepods("early", "deployed-2")?;
    kube.put("deployed-2", &json!({}));
    let added = kube.call("ADD", "deployed-2", &pod)?;
    ensure!(added.is_added(), "{added:?}");
    ensure!(Scene::of(pod)?.reached()? == "old");
    for path in deployed.probes() {
        let answer = agent.get(&path);
        ensure!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    Ok(())
}

fn the_agents_container_needs_each_of_its_capabilities() -> Tested {
    let all = Deployed::container("agent")?.capabilities();
    let rest = vec!["bpf", "net_admin", "perfmon", "sys_ptrace"];
    let mut tried = vec![(rest, "enter it (needs CAP_SYS_ADMIN)")];
    for left_out in &all {
        let rest = all.iter().filter(|name| *name != left_out);
        let why = match left_out.as_str() {
            "sys_admin" => "this process lacks CAP_BPF (to load programs and make maps)",
            "sys_ptrace" => "/ns/net\\\" (needs CAP_SYS_PTRACE)",
            other => bail!("no test covers {other}"),
        };
        tried.push((rest.map(String::as_str).collect(), why));
    }
    for (set, why) in tried {
        let kube = KubeNode::new("lacking")?;
        let shop = Scene::of(Pod::in_kubepods("shop", "lacking-1")?)?;
        kube.put("lacking-1", &json!({}));
        let set: Vec<_> = set.into_iter().map(str::to_owned).collect();
        let agent = kube.start_under(&only(&set), &[]);
        agent.until(why, || agent.log().contains(why));
        ensure!(shop.reached()? == "world" && kube.node.pods().is_empty());
    }
    Ok(())
}

fn the_installer_needs_no_capability_and_keeps_running() -> Tested {
    let deployed = Deployed::container("install-cni")?;
    ensure!(deployed.capabilities().is_empty());
    let kube = KubeNode::new("installer")?;
    let root = kube.node.folder();
    let (confs, bins) = (root.join("net.d"), root.join("bin"));
    for folder in [&confs, &bins] {
        fs::create_dir(folder)?;
    }
    let list = confs.join("10-network.conflist");
    let plugins = || -> Vec<String> {
        let text = fs::read_to_string(&list).unwrap_or_default();
        let whole: Value = serde_json::from_str(&text).unwrap_or_default();
        let plugins = whole["plugins"].as_array().into_iter().flatten();
        plugins
            .map(|plugin| plugin["type"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    // The list is renamed into place, as installers of networks do.
    let network = || -> Tested {
        let draft = confs.join("draft");
        let whole =
            json!({"cniVersion": "1.0.0", "name": "network", "plugins": [{"type": "bridge"}]});
        fs::write(&draft, whole.to_string())?;
        Ok(fs::rename(&draft, &list)?)
    };
    let command = |more: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args(DYING)
            .args(only(&[]))
            .args([BINARY, "install-cni"])
            .args(more)
            .arg("--conf-dir")
            .arg(&confs)
            .arg("--bin-dir")
            .arg(&bins)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    };
    let program = plugin()?.display().to_string();
    let mut child = command(&["--watch", "--plugin", &program]).spawn()?;
    // The child must not outlive the test, whatever fails in it.
    let tested = (|| {
        for time in ["first", "again"] {
            network()?;
            let is_in = || plugins() == ["bridge", "redirect-cni"];
            ensure!(wait_until(LONG, is_in), "{time}: {:?}", plugins());
        }
        ensure!(child.try_wait()?.is_none());
        kill_process(Pid::from_child(&child), Signal::TERM)?;
        ensure!(child.wait()?.success());
        ensure!(plugins() == ["bridge", "redirect-cni"]);
        ensure!(command(&["--remove"]).status()?.success());
        ensure!(plugins() == ["bridge"] && !bins.join("redirect-cni").exists());
        Ok(())
    })();
    child.kill().unwrap_or_default();
    drop(child.wait());
    tested
}
