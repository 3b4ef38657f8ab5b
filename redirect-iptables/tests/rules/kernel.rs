//! Real iptables accept the rendered rules, and act on them as on the testkit's own rules.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};
use redirect_iptables::rules::{Family, restore};
use redirect_testkit::{
    APP_ID, Dial, Identity, PROXY_ID, Pod, Serve, Worker, cases,
    iptables::{self, Backend, IstioRules},
};
use redirect_user::config::{Inbound, InboundPorts, Include, PortRange, ProxyIds, RedirectConfig};

use crate::{Cases, Needs, Tested, configs::configs_with_dns};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Iptables => [
        every_configuration_is_accepted_by_iptables,
        iptables_do_the_same_with_rendered_rules_and_the_testkits,
    ],
};

/// The number of configurations that are tried.
const CONFIGS: usize = 12;

pub(crate) const fn of_testkit(family: Family) -> iptables::Family {
    match family {
        Family::V4 => iptables::Family::V4,
        Family::V6 => iptables::Family::V6,
    }
}

/// The output of `iptables-save` to root in a pod: all tables, with counters.
pub(crate) fn saved(root: &Worker, backend: Backend, family: Family) -> Result<String> {
    let [_, _, v4, v6] = backend.programs();
    let program = match family {
        Family::V4 => v4,
        Family::V6 => v6,
    };
    let ran = root.run(&[program, "-c"])?;
    ensure!(ran.is_success(), "{program}: {ran:?}");
    Ok(ran.stdout)
}

/// Empties every table of a pod.
pub(crate) fn clear(pod: &Pod, backend: Backend, family: Family) -> Tested {
    let empty = ["raw", "mangle", "nat", "filter"].map(|table| format!("*{table}\nCOMMIT\n"));
    iptables::apply(pod, backend, of_testkit(family), &empty.concat())
}

fn every_configuration_is_accepted_by_iptables() -> Tested {
    let pod = Pod::new("rules-taken")?;
    let mut runner = TestRunner::deterministic();
    for _ in 0..CONFIGS {
        let config = configs_with_dns()
            .new_tree(&mut runner)
            .map_err(|reason| anyhow::anyhow!("making a configuration: {reason}"))?
            .current();
        for family in Family::ALL {
            let text = restore(&config, family);
            for backend in [Backend::Legacy, Backend::Nft] {
                iptables::check(&pod, backend, of_testkit(family), &text)?;
            }
        }
    }
    // The check can fail: iptables reads the text.
    let wrong = restore(&RedirectConfig::default(), Family::V6);
    let taken = iptables::check(&pod, Backend::Nft, iptables::Family::V4, &wrong);
    ensure!(taken.is_err(), "iptables accepted IPv6 rules as IPv4 rules");
    Ok(())
}

/// Addresses of the world; the first of each family is excluded.
const WORLD: [&str; 4] = [
    "36.152.44.96",
    "2001:db8:1::9",
    "203.0.113.10",
    "2001:db8::9",
];

/// A pod whose application, proxy and world serve, and dial.
struct Scene {
    app: Worker,
    proxy: Worker,
    world: Worker,
    pod: Pod,
}

/// The name of the server that answered, and the original destination that it read.
type Answer = Option<(String, Option<SocketAddr>)>;

impl Scene {
    fn new() -> Result<Self> {
        let pod = Pod::new("rules-same")?;
        for address in WORLD {
            pod.world().add_address(address.parse()?)?;
        }
        let scene = Self {
            app: pod.worker(&Identity::app())?,
            proxy: pod.worker(&Identity::proxy())?,
            world: pod.world().worker(&Identity::root())?,
            pod,
        };
        for (worker, name, port) in [
            (&scene.world, "world", 80),
            (&scene.proxy, "out", 15001),
            (&scene.proxy, "in", 15006),
            (&scene.app, "app", 8080),
            (&scene.app, "spared", 5555),
        ] {
            let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
            worker.serve(&Serve::new(name, any).dual_stack())?;
        }
        Ok(scene)
    }

    /// Makes the same connections each time, under the rules of the moment.
    fn answers(&self) -> Result<Vec<Answer>> {
        let local = [IpAddr::from(Pod::V4), IpAddr::from(Pod::V6)];
        let mut answers = Vec::new();
        let mut dial = |worker: &Worker, address: IpAddr, port: u16| -> Result<()> {
            let dialled = worker.dial(&Dial::to(SocketAddr::new(address, port)))?;
            let server = dialled.server().map(str::to_owned);
            answers.push(server.map(|server| (server, dialled.orig_dst())));
            Ok(())
        };
        for worker in [&self.app, &self.proxy] {
            for address in WORLD {
                dial(worker, address.parse()?, 80)?;
            }
        }
        for worker in [&self.app, &self.proxy, &self.world] {
            for address in local {
                for port in [8080, 5555] {
                    dial(worker, address, port)?;
                }
            }
        }
        Ok(answers)
    }
}

/// Pairs of a configuration and the testkit's rules for it.
fn pairs() -> [(RedirectConfig, IstioRules); 3] {
    let ranges =
        |texts: [&str; 2]| -> Vec<IpNet> { texts.map(|text| text.parse().expect(text)).to_vec() };
    let excluded = ranges(["36.152.44.0/24", "2001:db8:1::/48"]);
    let included = ranges(["203.0.113.0/24", "2001:db8::/48"]);
    [
        (
            RedirectConfig {
                include: Include::Any,
                exclude: excluded.clone(),
                inbound: Inbound {
                    include_ports: InboundPorts::Any,
                    exclude_ports: vec![PortRange::single(5555)],
                    ..Inbound::default()
                },
                ..RedirectConfig::default()
            },
            IstioRules {
                exclude_cidrs: excluded,
                inbound_except: Some(vec![5555]),
                ..IstioRules::default()
            },
        ),
        (
            RedirectConfig {
                proxy_uids: ProxyIds::new(vec![PROXY_ID, APP_ID]).expect("ids"),
                include: Include::Any,
                ..RedirectConfig::default()
            },
            IstioRules {
                uids: vec![PROXY_ID, APP_ID],
                inbound_except: None,
                ..IstioRules::default()
            },
        ),
        (
            RedirectConfig {
                include: Include::Cidrs(included.clone()),
                exclude_ports: vec![PortRange::single(5555)],
                ..RedirectConfig::default()
            },
            IstioRules {
                include: iptables::Include::Only(included),
                exclude_ports: vec![5555],
                inbound_except: None,
                ..IstioRules::default()
            },
        ),
    ]
}

fn iptables_do_the_same_with_rendered_rules_and_the_testkits() -> Tested {
    let scene = Scene::new()?;
    let untouched = scene.answers()?;
    for (config, rules) in pairs() {
        for backend in [Backend::Legacy, Backend::Nft] {
            for family in Family::ALL {
                let text = restore(&config, family);
                iptables::apply(&scene.pod, backend, of_testkit(family), &text)?;
            }
            let ours = scene.answers()?;
            iptables::apply_istio(&scene.pod, backend, &rules)?;
            assert_eq!(ours, scene.answers()?, "{backend:?}: {config:?}");
            assert_ne!(ours, untouched, "{backend:?}: {config:?}");
            iptables::clear(&scene.pod, backend)?;
        }
    }
    Ok(())
}
