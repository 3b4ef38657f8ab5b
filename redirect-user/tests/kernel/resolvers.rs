//! A pod's resolvers are those of its own `/etc/resolv.conf`.

use std::{net::IpAddr, time::Duration};

use anyhow::{Result, ensure};
use redirect_testkit::{Identity, Pod, Worker, cases, wait_until};
use redirect_user::{
    config::{Dns, Include, RedirectConfig},
    node::{ResolvConf, find_resolvers},
    sys::{cgroup::Cgroup, netns::NetnsRef},
};

use crate::{
    Cases, Needs, Tested,
    harness::{OwnerFolder, netns},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        a_pods_own_file_names_its_resolvers,
        without_a_resolver_dns_is_not_captured,
        a_file_that_cannot_be_read_is_an_error,
    ],
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A process of a pod that has an `/etc` of its own, filled by a script.
struct Container {
    pid: u32,
    _worker: Worker,
}

impl Container {
    fn new(pod: &Pod, script: &str) -> Result<Self> {
        let worker = pod.worker(&Identity::root())?;
        let script = format!(
            "echo 0 > {}/cgroup.procs && exec unshare --mount sh -c \"mount -t tmpfs tmpfs /etc \
             && cd /etc && {script} && echo ready && exec sleep 1000\"",
            pod.cgroup().app().display()
        );
        let process = worker.start(&["sh", "-c", &script], "")?;
        let ready = || worker.log(process).is_ok_and(|log| log.contains("ready"));
        ensure!(wait_until(PATIENCE, ready), "{}", worker.log(process)?);
        Ok(Self {
            pid: process.pid,
            _worker: worker,
        })
    }
}

fn captured(servers: &[&str]) -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        dns: Dns {
            redirect: true,
            capture_all: false,
            servers: addresses(servers),
        },
        ..RedirectConfig::default()
    }
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect(text)).collect()
}

/// What becomes of a configuration, and the warning.
fn found(
    mut config: RedirectConfig,
    asker: ResolvConf<'_>,
) -> Result<(RedirectConfig, Option<String>)> {
    let warning = find_resolvers(&mut config, asker)?;
    Ok((config, warning))
}

fn a_pods_own_file_names_its_resolvers() -> Tested {
    let pod = Pod::new("resolvers")?;
    // A link leads within the container, where the file is, and not here, where none is.
    let script = "printf 'nameserver 192.0.2.53\\nnameserver nonsense\\nnameserver 2001:db8::53\\n' > elsewhere \
                  && ln -s /etc/elsewhere resolv.conf";
    let container = Container::new(&pod, script)?;
    let cgroup = Cgroup::open(pod.cgroup().path())?;
    let servers = ["192.0.2.53", "2001:db8::53"];
    let by_pid = NetnsRef::Pid(container.pid);
    let by_path = NetnsRef::Path(pod.namespace());
    for netns in [None, Some(&by_pid), Some(&by_path)] {
        let asker = ResolvConf::Pod {
            cgroup: &cgroup,
            netns,
        };
        let (config, warning) = found(captured(&[]), asker)?;
        ensure!(config == captured(&servers), "{netns:?}: {config:?}");
        ensure!(warning.is_none(), "{warning:?}");
        // What is given stands.
        let given = captured(&["198.51.100.1"]);
        ensure!(found(given.clone(), asker)?.0 == given);
        let mut all = captured(&[]);
        all.dns.capture_all = true;
        ensure!(found(all.clone(), asker)?.0 == all);
        let plain = RedirectConfig::default();
        ensure!(found(plain.clone(), asker)?.0 == plain);
    }
    // They reach the maps, and come back.
    let owner = OwnerFolder::new("resolvers");
    let (config, _) = found(
        captured(&[]),
        ResolvConf::Pod {
            cgroup: &cgroup,
            netns: None,
        },
    )?;
    owner.writer()?.attach(&cgroup, &netns(&pod)?, &config)?;
    let reader = owner.reader()?;
    let shown = reader.config(&reader.pod(cgroup.id(), cgroup.path())?)?;
    ensure!(shown.dns == config.dns, "{:?}", shown.dns);
    // The machine's own are others.
    let (own, _) = found(captured(&[]), ResolvConf::Own)?;
    ensure!(own.dns.servers != addresses(&servers), "{own:?}");
    Ok(())
}

fn without_a_resolver_dns_is_not_captured() -> Tested {
    let pod = Pod::new("noresolver")?;
    let container = Container::new(&pod, "printf 'search x\\nnameserver\\n' > resolv.conf")?;
    let cgroup = Cgroup::open(pod.cgroup().path())?;
    let name = NetnsRef::Pid(container.pid);
    let asker = ResolvConf::Pod {
        cgroup: &cgroup,
        netns: Some(&name),
    };
    let (config, warning) = found(captured(&[]), asker)?;
    ensure!(!config.dns.redirect && !config.dns.is_on(), "{config:?}");
    ensure!(warning.is_some_and(|text| text.contains("DNS is not captured")));
    Ok(())
}

fn a_file_that_cannot_be_read_is_an_error() -> Tested {
    let pod = Pod::new("badresolver")?;
    let cgroup = Cgroup::open(pod.cgroup().path())?;
    let asker = ResolvConf::Pod {
        cgroup: &cgroup,
        netns: None,
    };
    let refused = |words: &str| -> Tested {
        let error = found(captured(&[]), asker).expect_err(words);
        let text = format!("{error:#}");
        ensure!(
            text.contains(words) && text.contains("--dns-servers"),
            "{text}"
        );
        Ok(())
    };
    refused("no process is in cgroup")?;
    for (script, words) in [
        ("true", "No such file"),
        ("mkfifo resolv.conf", "not a regular file"),
        (
            "ln -s /proc/self/root/etc/hostname resolv.conf",
            "cross-device link",
        ),
        (
            "head -c 2000000 /dev/zero > resolv.conf",
            "longer than a mebibyte",
        ),
    ] {
        let _container = Container::new(&pod, script)?;
        refused(words)?;
    }
    Ok(())
}
