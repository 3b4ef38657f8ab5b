//! The agent's container may do what the deployed YAML says, and no more: that is enough.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use redirect_testkit::{Identity, Pod, Serve};
use serde_json::{Value, json};

use crate::{
    Test, Tested,
    kube::Kubelet,
    scene::{OLD, Scene},
};

pub(crate) const TESTS: &[Test] = &[("probe_sets", probe_sets)];

fn probe_sets() -> Tested {
    for set in [
        "bpf,net_admin,perfmon,sys_admin,sys_ptrace",
        "net_admin,perfmon,sys_admin,sys_ptrace",
        "bpf,perfmon,sys_admin,sys_ptrace",
        "bpf,net_admin,sys_admin,sys_ptrace",
        "bpf,net_admin,perfmon,sys_ptrace",
        "bpf,net_admin,perfmon,sys_admin",
        "sys_admin,sys_ptrace",
        "net_admin,sys_admin,sys_ptrace",
    ] {
        let bounding = format!("--bounding-set=-all,+{}", set.replace(',', ",+"));
        let kubelet = Kubelet::new("probe")?;
        let shop = Scene::of(Pod::of_kubelet("shop", "probe-1")?)?;
        kubelet.put("probe-1", &json!({}));
        let agent = kubelet.start_under(&[bounding, "--inh-caps=-all".into(), "--no-new-privs".into()], &[]);
        std::thread::sleep(std::time::Duration::from_secs(3));
        eprintln!("== {set}: {:?} ready {:?}\n{}", shop.who(), agent.get("/readyz"), agent.log());
    }
    Ok(())
}
