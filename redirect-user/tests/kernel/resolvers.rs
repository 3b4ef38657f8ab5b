//! The resolvers of a pod, which its own `/etc/resolv.conf` names.

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
        the_resolv_conf_of_a_pod_names_its_resolvers,
        without_a_resolver_dns_is_not_captured,
        an_unreadable_resolv_conf_is_an_error,
    ],
};

/// The time that a container's process may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process of a pod with an `/etc` of its own, which a script fills.
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

/// Completes a configuration with the resolvers. Returns the configuration and the warning.
fn completed(
    mut config: RedirectConfig,
    asker: ResolvConf<'_>,
) -> Result<(RedirectConfig, Option<String>)> {
    let warning = find_resolvers(&mut config, asker)?;
    Ok((config, warning))
}

fn the_resolv_conf_of_a_pod_names_its_resolvers() -> Tested {
    let pod = Pod::new("resolvers")?;
    // The link leads to a file in the container, and to none here.
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
        let (config, warning) = completed(captured(&[]), asker)?;
        ensure!(config == captured(&servers), "{netns:?}: {config:?}");
        ensure!(warning.is_none(), "{warning:?}");
        // Resolvers that the configuration names already stay.
        let given = captured(&["198.51.100.1"]);
        ensure!(completed(given.clone(), asker)?.0 == given);
        let mut all = captured(&[]);
        all.dns.capture_all = true;
        ensure!(completed(all.clone(), asker)?.0 == all);
        let plain = RedirectConfig::default();
        ensure!(completed(plain.clone(), asker)?.0 == plain);
    }
    // The resolvers are written to the maps, and read back.
    let owner = OwnerFolder::new("resolvers");
    let (config, _) = completed(
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
    // The resolvers of the machine are others.
    let (own, _) = completed(captured(&[]), ResolvConf::Own)?;
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
    let (config, warning) = completed(captured(&[]), asker)?;
    ensure!(!config.dns.redirect && !config.dns.is_on(), "{config:?}");
    ensure!(warning.is_some_and(|text| text.contains("DNS is not captured")));
    Ok(())
}

fn an_unreadable_resolv_conf_is_an_error() -> Tested {
    let pod = Pod::new("badresolver")?;
    let cgroup = Cgroup::open(pod.cgroup().path())?;
    let asker = ResolvConf::Pod {
        cgroup: &cgroup,
        netns: None,
    };
    let refused = |words: &str| -> Tested {
        let error = completed(captured(&[]), asker).expect_err(words);
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
