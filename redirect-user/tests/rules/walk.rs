//! A packet's walk through a text of rules ends where real connections do under these rules, and
//! the rule that it says decided is the one whose counter moves in the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use redirect_common::facts::Owner;
use redirect_testkit::{
    Behaviour, Dial, Identity, Mode, Outcome, PROXY_ID, Place, Pod, Serve, Worker, World,
    iptables::{self, Backend},
};
use redirect_user::{
    netfilter::{Answer, By, Packet, Protocol, Ruleset, Verdict, Via, inbound, outbound, parse},
    rules::{Family, restore},
};

use crate::{Test, Tested, golden::resolved, kernel::of_testkit};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_walk_ends_where_connections_do_under_rendered_rules",
        a_walk_ends_where_connections_do_under_rendered_rules,
    ),
    (
        "a_walk_ends_where_connections_do_under_foreign_rules",
        a_walk_ends_where_connections_do_under_foreign_rules,
    ),
];

/// Where the world serves.
const WORLD: [&str; 4] = [
    "36.152.44.96",
    "203.0.113.10",
    "2001:db8:1::9",
    "2001:db8::9",
];
/// Its ports, also of datagrams.
const WORLD_PORTS: [u16; 2] = [80, 53];
/// Where the application serves.
const APP_PORTS: [u16; 2] = [8080, 5555];
/// Where redirected connections are answered, besides at those ports of the pod that are the
/// world's.
const PROXY_PORTS: [u16; 3] = [15001, 15006, 15053];

/// Options whose rules are walked.
const RENDERED: [&str; 5] = [
    "-i * -x 36.152.44.0/24,2001:db8:1::/48 -b * -d 5555",
    "-i 203.0.113.0/24,2001:db8::/48 -o 5555 -b 8080",
    "-q 50:79,80 -x 0.0.0.0/0 -u 1337,1000 -g 2000",
    "-i 127.0.0.0/8,::1/128 -x 203.0.113.10/32 -u 1337 -g 1000",
    "-i * --outbound-owner-groups 2000 -e 8080",
];

/// Rules that Istio does not write, and some that it does; `V6` has the same ones.
const FOREIGN: [&str; 6] = [
    // As Istio writes it with DNS capture.
    "*raw
:CAPTURED - [0:0]
-A OUTPUT -j CAPTURED
-A CAPTURED -p udp -m udp --dport 53 -m owner --uid-owner 1337 -j CT --zone 1
-A CAPTURED -p udp -m udp --sport 15053 -m owner --uid-owner 1337 -j CT --zone 2
-A CAPTURED -p udp -m udp --dport 53 -j CT --zone 2
COMMIT
*nat
:CAPTURED - [0:0]
:REST - [0:0]
-A OUTPUT -j CAPTURED
-A CAPTURED ! -d LOOPBACK -o lo -p tcp -m multiport ! --dports 53,15008 -m owner --uid-owner 1337 -j REDIRECT --to-ports 15006
-A CAPTURED -o lo -p tcp -m tcp ! --dport 53 -m owner ! --uid-owner 1337 -j RETURN
-A CAPTURED -m owner --uid-owner 1337 -j RETURN
-A CAPTURED -j REST
-A CAPTURED -d LOOPBACK -j RETURN
-A CAPTURED -p tcp -j REDIRECT --to-ports 15001
-A REST -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 15053
-A REST -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053
COMMIT
",
    "*nat
:AWAY - [0:0]
:DEEP - [0:0]
-A PREROUTING -i eth0 -p tcp -m tcp --dport 5555 -j REDIRECT --to-ports 15006
-A PREROUTING -i veth+ -p tcp -j REDIRECT --to-ports 15001
-A OUTPUT -o eth+ -p tcp -m multiport --dports 81,8000:8100 -j REDIRECT --to-ports 15006
-A OUTPUT -m owner --uid-owner 1300-1400 -g AWAY
-A OUTPUT ! -o lo -p tcp -m owner ! --gid-owner 2000 -j DEEP
-A OUTPUT -o lo -p tcp -m tcp --dport 5555 -j REDIRECT --to-ports 15001
-A AWAY -d FIRST -j RETURN
-A AWAY -p tcp -m tcp ! --dport 53 -j REDIRECT --to-ports 15006
-A DEEP -d SECOND -p tcp -j REDIRECT
-A DEEP -j RETURN
COMMIT
",
    "*mangle
-A OUTPUT -m owner --uid-owner 1000 -j MARK --set-xmark 0x7/0xff
-A OUTPUT -p tcp -m owner --gid-owner 2000 -j CONNMARK --set-xmark 0x9/0xff
-A OUTPUT -d FIRST -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff
COMMIT
*nat
-A OUTPUT -p tcp -m connmark --mark 0x9/0xff -j REDIRECT --to-ports 15006
-A OUTPUT -p tcp -m connmark --mark 0x7 -j REDIRECT --to-ports 15001
-A OUTPUT -p tcp -m mark ! --mark 0x7/0xff -j REDIRECT --to-ports 15053
COMMIT
",
    "*nat
-A OUTPUT -p tcp -m conntrack --ctstate ESTABLISHED,RELATED -j REDIRECT --to-ports 15006
-A OUTPUT -p tcp -m state --state NEW -m comment --comment \"a \\\"new\\\" one\" -m owner ! --uid-owner 1337 -j REDIRECT --to-ports 15001
COMMIT
*filter
-A OUTPUT -p tcp -d LOOPBACK -m tcp --dport 15001 -m owner --uid-owner 0 -j REJECT --reject-with tcp-reset
-A OUTPUT -p tcp -d SECOND -j REJECT --reject-with tcp-reset
COMMIT
",
    "*nat
-A OUTPUT -s PASSTHROUGH -p tcp -j REDIRECT --to-ports 15006
-A OUTPUT -d FIRST -j ACCEPT
-A OUTPUT ! -d SECOND -p tcp -m tcp --dport 8080:65535 -j REDIRECT --to-ports 15001
-A OUTPUT -p udp -m udp --dport 53 -m owner ! --uid-owner 1337 -j REDIRECT --to-ports 15053
-A OUTPUT ! -p udp -d SECOND -j RETURN
-A OUTPUT -p tcp -j REDIRECT --to-ports 15053
COMMIT
",
    "*nat
:ONE - [0:0]
:TWO - [0:0]
-A OUTPUT -p tcp -j LOG --log-prefix \"a call: \"
-A OUTPUT -j ONE
-A OUTPUT -p tcp -m owner --uid-owner 0 -j REDIRECT --to-ports 15053
-A ONE -g TWO
-A ONE -p tcp -j REDIRECT --to-ports 15006
-A TWO -m owner --uid-owner 1337 -j ACCEPT
-A TWO -p tcp -m owner --uid-owner 1000 --gid-owner 2000 -j REDIRECT --to-ports 15001
-A TWO -o lo -j RETURN
COMMIT
",
];

/// A foreign text for a family.
fn foreign(text: &str, family: Family) -> String {
    let (loopback, passthrough, [first, second]) = match family {
        Family::V4 => (
            "127.0.0.1/32",
            "127.0.0.6/32",
            ["36.152.44.0/24", "203.0.113.10/32"],
        ),
        Family::V6 => ("::1/128", "::6/128", ["2001:db8:1::/48", "2001:db8::9/128"]),
    };
    text.replace("LOOPBACK", loopback)
        .replace("PASSTHROUGH", passthrough)
        .replace("FIRST", first)
        .replace("SECOND", second)
}

/// A pod where everybody serves, and who dials: the name of a server is its port's if it is the
/// proxy's.
struct Scene {
    dialling: Vec<(Owner, Worker)>,
    root: Worker,
    world: Worker,
    proxy: Worker,
    pod: Pod,
}

impl Scene {
    fn new(name: &str) -> Result<Self> {
        let pod = Pod::new(name)?;
        for address in WORLD {
            pod.world().add_address(address.parse()?)?;
        }
        let owners = [(1000, 1000), (1000, 2000), (PROXY_ID, PROXY_ID), (0, 0)];
        let dialling = owners.into_iter().map(|(uid, gid)| {
            let identity = Identity {
                uid,
                gid,
                ..Identity::app()
            };
            Ok((Owner { uid, gid }, pod.worker(&identity)?))
        });
        let scene = Self {
            dialling: dialling.collect::<Result<_>>()?,
            root: pod.worker(&Identity::root().at(Place::Unchanged))?,
            world: pod.world().worker(&Identity::root())?,
            proxy: pod.worker(&Identity::proxy())?,
            pod,
        };
        scene.serve()?;
        Ok(scene)
    }

    fn serve(&self) -> Tested {
        let any = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        // A name is a worker's own, so it has a second part.
        let tcp = |name: &str, port| Serve::new(&format!("{name} {port}"), any(port)).dual_stack();
        let (_, app) = self.dialling.first().context("an application")?;
        for port in WORLD_PORTS {
            self.world.serve(&tcp("direct", port))?;
            self.root.serve(&tcp(&port.to_string(), port))?;
        }
        for port in APP_PORTS {
            app.serve(&tcp("direct", port))?;
        }
        for port in PROXY_PORTS {
            self.proxy.serve(&tcp(&port.to_string(), port))?;
        }
        for address in WORLD {
            let at = SocketAddr::new(address.parse()?, 53);
            let udp = Serve::new(&format!("direct {address}"), at);
            self.world.serve(&udp.behaviour(Behaviour::Udp))?;
        }
        for address in [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ] {
            let udp = Serve::new(&format!("15053 {address}"), SocketAddr::new(address, 15053));
            self.proxy.serve(&udp.behaviour(Behaviour::Udp))?;
        }
        Ok(())
    }

    /// All tables as they stand, with counters.
    fn saved(&self, backend: Backend, family: Family) -> Result<String> {
        let [_, _, v4, v6] = backend.programs();
        let program = match family {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        let ran = self.root.run(&[program, "-c"])?;
        ensure!(ran.is_success(), "{program}: {ran:?}");
        Ok(ran.stdout)
    }

    /// Dials under the rules that are there, and walks each dial's packet through them.
    fn compare(&self, backend: Backend, family: Family) -> Result<Seen> {
        let mut before = self.saved(backend, family)?;
        let rules = parse(family, &before)?;
        let mut seen = Seen::default();
        for (worker, dial, packet, is_inbound) in self.dials(family) {
            let answer = if is_inbound {
                inbound(&rules, &packet)
            } else {
                outbound(&rules, &packet)
            };
            let dialled = worker.dial(&dial)?;
            let shown = || {
                let by = answer.by.text();
                format!(
                    "{backend:?}: {packet:?}: {:?} by {by}\n{before}",
                    answer.verdict
                )
            };
            let server = match dialled.outcome {
                Outcome::Refused => Some("refused"),
                _ => dialled.server().and_then(|name| name.split(' ').next()),
            };
            assert_eq!(server, Some(expected(&answer)?.as_str()), "{}", shown());
            let after = self.saved(backend, family)?;
            if let By::Rule(rule) = answer.by {
                let hits = [&before, &after].map(|text| counter(text, rule.line));
                assert!(hits[0] < hits[1], "{hits:?}: {}", shown());
                seen.decided.insert(rule.line);
            }
            seen.verdicts.insert(expected(&answer)?);
            before = after;
        }
        seen.deciding = deciding(&rules);
        Ok(seen)
    }

    /// Every dial of a family with its first packet, and whether it comes from outside.
    fn dials(&self, family: Family) -> Vec<(&Worker, Dial, Packet, bool)> {
        let mut dials = Vec::new();
        let parse = |text: &str| text.parse::<IpAddr>().expect(text);
        let is_family = |address: &IpAddr| address.is_ipv4() == (family == Family::V4);
        let world: Vec<_> = WORLD.map(parse).into_iter().filter(is_family).collect();
        let (pod, gateway, local, passthrough) = match family {
            Family::V4 => (
                IpAddr::from(Pod::V4),
                IpAddr::from(World::V4),
                &["127.0.0.1", "127.0.0.2", "0.0.0.0", "10.77.0.2"][..],
                parse("127.0.0.6"),
            ),
            Family::V6 => (
                Pod::V6.into(),
                World::V6.into(),
                &["::1", "::", "fd00:77::2"][..],
                parse("::6"),
            ),
        };
        for (owner, worker) in &self.dialling {
            let mut add = |dial: Dial, packet: Packet| dials.push((worker, dial, packet, false));
            let packet = |source, to: SocketAddr, via| packet(source, to, via, Some(*owner));
            for address in &world {
                for port in WORLD_PORTS {
                    let to = SocketAddr::new(*address, port);
                    let tcp = packet(pod, to, Via::Named("eth0".to_owned()));
                    let udp = Packet {
                        protocol: Protocol::Udp,
                        ..tcp.clone()
                    };
                    if to.is_ipv4() && port == 80 {
                        add(Dial::to(to).mapped(), tcp.clone());
                    }
                    add(Dial::to(to), tcp);
                    if port == 53 {
                        add(Dial::to(to).mode(Mode::Udp), udp);
                    }
                }
            }
            for text in local {
                for port in APP_PORTS {
                    let to = SocketAddr::new(parse(text), port);
                    let on_wire = match to.ip() {
                        IpAddr::V4(address) if address.is_unspecified() => parse("127.0.0.1"),
                        IpAddr::V6(address) if address.is_unspecified() => parse("::1"),
                        address => address,
                    };
                    let source = if on_wire == parse("127.0.0.2") {
                        parse("127.0.0.1")
                    } else {
                        on_wire
                    };
                    let unbound = packet(source, SocketAddr::new(on_wire, port), Via::Loopback);
                    // IPv4's zero address is the socket's own, if it has one.
                    let own = to.ip().is_unspecified() && to.is_ipv4();
                    let bound = Packet {
                        source: passthrough,
                        destination: if own { passthrough } else { on_wire },
                        ..unbound.clone()
                    };
                    add(Dial::to(to), unbound);
                    add(Dial::to(to).from(SocketAddr::new(passthrough, 0)), bound);
                }
            }
        }
        for port in APP_PORTS {
            let to = SocketAddr::new(pod, port);
            let packet = packet(gateway, to, Via::Named("eth0".to_owned()), None);
            dials.push((&self.world, Dial::to(to), packet, true));
        }
        dials
    }
}

fn packet(source: IpAddr, to: SocketAddr, via: Via, owner: Option<Owner>) -> Packet {
    Packet {
        protocol: Protocol::Tcp,
        source,
        source_port: None,
        destination: to.ip(),
        destination_port: to.port(),
        via,
        owner,
    }
}

/// What the dials of a text have shown.
#[derive(Default)]
struct Seen {
    verdicts: std::collections::BTreeSet<String>,
    /// Lines of rules that decided, and of those that can.
    decided: std::collections::BTreeSet<usize>,
    deciding: usize,
}

/// How many rules decide what they match.
fn deciding(rules: &Ruleset) -> usize {
    use redirect_user::netfilter::Target;
    let decides = |target: &Target| {
        !matches!(
            target,
            Target::Jump(_)
                | Target::Goto(_)
                | Target::Aside(_)
                | Target::Mark(_)
                | Target::Connmark(_)
        )
    };
    rules.rules().filter(|rule| decides(&rule.target)).count()
}

/// Who answers, by a verdict.
fn expected(answer: &Answer<'_>) -> Result<String> {
    Ok(match answer.verdict {
        Verdict::Direct => "direct".to_owned(),
        Verdict::Redirect(port) => port.to_string(),
        Verdict::Drop => "refused".to_owned(),
        Verdict::Tproxy(_) | Verdict::Unknown => anyhow::bail!("{answer:?}"),
    })
}

/// The packets that a rule has counted.
fn counter(text: &str, line: usize) -> u64 {
    let line = text.lines().nth(line - 1).expect("the line of a rule");
    let counter = line.strip_prefix('[').and_then(|rest| rest.split_once(':'));
    counter.expect("a counter").0.parse().expect("a number")
}

/// Applies texts for each backend and family, and compares.
fn compare(name: &str, text: impl Fn(Family) -> Result<String>, scene: &Scene) -> Tested {
    for backend in [Backend::Legacy, Backend::Nft] {
        for family in Family::ALL {
            iptables::apply(&scene.pod, backend, of_testkit(family), &text(family)?)?;
            let seen = scene.compare(backend, family)?;
            let half = seen.deciding.div_ceil(2);
            ensure!(
                seen.verdicts.len() > 1 && seen.decided.len() >= half,
                "{name}: too little was seen: {:?}, {} of {} rules",
                seen.verdicts,
                seen.decided.len(),
                seen.deciding
            );
            let empty =
                ["raw", "mangle", "nat", "filter"].map(|table| format!("*{table}\nCOMMIT\n"));
            iptables::apply(&scene.pod, backend, of_testkit(family), &empty.concat())?;
        }
    }
    Ok(())
}

fn a_walk_ends_where_connections_do_under_rendered_rules() -> Tested {
    let scene = Scene::new("walk-rendered")?;
    for options in RENDERED {
        let config = resolved(options)?.config;
        compare(options, |family| Ok(restore(&config, family)), &scene)
            .with_context(|| options.to_owned())?;
    }
    Ok(())
}

fn a_walk_ends_where_connections_do_under_foreign_rules() -> Tested {
    let scene = Scene::new("walk-foreign")?;
    for text in FOREIGN {
        compare(text, |family| Ok(foreign(text, family)), &scene)
            .with_context(|| text.to_owned())?;
    }
    Ok(())
}
