//! Policies that are stored apart from each other: large ones, changes of one range, and limits.

use std::{net::Ipv4Addr, time::Instant};

use anyhow::{Context as _, Result, ensure};
use ipnet::{IpNet, Ipv4Net};
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};
use redirect_common::abi::{CidrFlags, Fingerprint, MAX_GROUPS};
use redirect_testkit::{Dial, cases};
use redirect_user::{
    bpf::PolicyEntries,
    config::{Include, OwnerGroups, PortRange, RedirectConfig},
    node::{Pod, Writer},
    policy::{PodNetwork, RangeEdit, RangeList, compile},
    sys::cgroup::Cgroup,
};

use crate::{
    Cases, Needs, Tested,
    harness::{ELSEWHERE_V4, FAR_V4, OUT_PORT, Redirected, Scene, at, dual_stack, netns},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        half_a_million_ranges_leave_room_for_another_pod,
        all_ports_of_a_pod_leave_room_for_another_pod,
        a_policy_beyond_a_limit_is_refused_and_the_earlier_one_stays,
        edits_of_one_range_store_what_a_new_policy_would,
    ],
};

/// More than half of what one policy can have: two of these did not fit into one map.
const MANY: u32 = 540_000;

fn everything() -> RedirectConfig {
    RedirectConfig {
        include: Include::Any,
        ..RedirectConfig::default()
    }
}

fn all_but(range: &str) -> RedirectConfig {
    RedirectConfig {
        exclude: vec![range.parse().expect(range)],
        ..everything()
    }
}

/// Every other /30 from 11.0.0.0 on.
fn many() -> Vec<IpNet> {
    let first = u32::from(Ipv4Addr::new(11, 0, 0, 0));
    let nets = (0..MANY).map(|index| Ipv4Net::new((first + index * 8).into(), 30));
    nets.map(|net| IpNet::V4(net.expect("a length that fits")))
        .collect()
}

/// A second pod of the same state directory.
struct Second {
    scene: Scene,
    cgroup: Cgroup,
}

impl Second {
    fn attach(first: &Redirected, name: &str, config: &RedirectConfig) -> Result<Self> {
        let scene = Scene::new(name)?;
        let cgroup = Cgroup::open(scene.pod.cgroup().path())?;
        let network = netns(&scene.pod)?;
        let mut writer = first.owner.writer()?;
        writer.attach(&cgroup, &network, &dual_stack(config))?;
        Ok(Self { scene, cgroup })
    }

    fn update(&self, first: &Redirected, config: &RedirectConfig) -> Tested {
        let mut writer = first.owner.writer()?;
        let pod = writer.pod(self.cgroup.id(), self.cgroup.path())?;
        Ok(writer.update(&pod, None, &dual_stack(config))?)
    }
}

/// Dials port 80 of an address, and asserts which server answers and which destination it sees.
fn reaches(scene: &Scene, to: &str, server: &str) -> Tested {
    let to = at(to, 80);
    let dialled = scene.dial_as(1000, 1000, &Dial::to(to))?;
    let orig_dst = (!server.starts_with("world")).then_some(to);
    ensure!(
        (dialled.server(), dialled.orig_dst()) == (Some(server), orig_dst),
        "to {to}: {dialled:?}"
    );
    Ok(())
}

fn proxy() -> String {
    format!("out4:{OUT_PORT}")
}

fn half_a_million_ranges_leave_room_for_another_pod() -> Tested {
    let large = RedirectConfig {
        exclude: many(),
        ..everything()
    };
    let first = Redirected::new("large", &large)?;
    let second = Second::attach(&first, "small", &all_but("36.152.44.0/24"))?;
    reaches(&second.scene, FAR_V4, "world4:80")?;
    reaches(&second.scene, ELSEWHERE_V4, &proxy())?;
    second.update(&first, &all_but("203.0.113.0/24"))?;
    reaches(&second.scene, FAR_V4, &proxy())?;
    reaches(&second.scene, ELSEWHERE_V4, "world4:80")?;

    // The large policy can be changed as a whole, which needs both at once.
    reaches(&first.scene, FAR_V4, &proxy())?;
    let mut larger = large;
    larger.exclude.push("36.152.44.0/24".parse()?);
    let begun = Instant::now();
    first.update(&larger)?;
    eprintln!("{MANY} ranges: stored anew in {:.1?}", begun.elapsed());
    reaches(&first.scene, FAR_V4, "world4:80")?;
    reaches(&first.scene, ELSEWHERE_V4, &proxy())?;

    // One range costs what one range costs.
    let mut writer = first.owner.writer()?;
    let pod = first.pod(&writer)?;
    let range = ["203.0.113.0/24".parse()?];
    let begun = Instant::now();
    writer.edit_ranges(&pod, RangeList::Exclude, RangeEdit::Add, &range)?;
    eprintln!("one range added in {:.1?}", begun.elapsed());
    ensure!(first.pod(&writer)?.row.policy == pod.row.policy);
    drop(writer);
    reaches(&first.scene, ELSEWHERE_V4, "world4:80")?;
    second.update(&first, &everything())?;
    reaches(&second.scene, ELSEWHERE_V4, &proxy())
}

fn all_ports_of_a_pod_leave_room_for_another_pod() -> Tested {
    let all = RedirectConfig {
        exclude_ports: vec![PortRange {
            first: 0,
            last: u16::MAX,
        }],
        ..everything()
    };
    let first = Redirected::new("ports", &all)?;
    reaches(&first.scene, FAR_V4, "world4:80")?;
    let one = RedirectConfig {
        exclude_ports: vec![PortRange::single(5555)],
        ..everything()
    };
    let second = Second::attach(&first, "port", &one)?;
    reaches(&second.scene, FAR_V4, &proxy())?;
    let other = RedirectConfig {
        exclude_ports: vec![PortRange::single(80)],
        ..everything()
    };
    second.update(&first, &other)?;
    reaches(&second.scene, FAR_V4, "world4:80")?;
    first.update(&everything())?;
    reaches(&first.scene, FAR_V4, &proxy())
}

fn a_policy_beyond_a_limit_is_refused_and_the_earlier_one_stays() -> Tested {
    let first = Redirected::new("limit", &all_but("36.152.44.0/24"))?;
    let beyond = RedirectConfig {
        owner_groups: OwnerGroups::List((1..=MAX_GROUPS + 1).collect()),
        ..everything()
    };
    let error = first.update(&beyond).err().context("no limit")?;
    let text = format!("{error:#}");
    let wanted = "it has 65537 owner groups, and a policy can have 65536";
    ensure!(text.contains(wanted), "{text}");
    reaches(&first.scene, FAR_V4, "world4:80")?;
    reaches(&first.scene, ELSEWHERE_V4, &proxy())?;
    let reader = first.owner.reader()?;
    ensure!(reader.maps().policies()?.len() == 1);
    drop(reader);
    let second = Second::attach(&first, "within", &everything())?;
    reaches(&second.scene, FAR_V4, &proxy())
}

/// Few distinct bits, so that ranges nest and overlap.
fn nested(random: &mut ChaCha8Rng) -> IpNet {
    if random.random_bool(0.5) {
        let octets: [u8; 4] = std::array::from_fn(|_| if random.random() { 0xa5 } else { 0x5a });
        let length = random.random_range(1..=32);
        return IpNet::new(octets.into(), length).expect("a length").trunc();
    }
    let high = random.random_bool(0.5);
    let octets: [u8; 16] = std::array::from_fn(|i| if high ^ (i % 3 == 0) { 0xa5 } else { 0x5a });
    let length = random.random_range(1..=128);
    IpNet::new(octets.into(), length).expect("a length").trunc()
}

/// Draws a change of one range.
fn draw_edit(
    config: &RedirectConfig,
    random: &mut ChaCha8Rng,
) -> Result<(RangeList, RangeEdit, IpNet)> {
    let Include::Cidrs(included) = &config.include else {
        anyhow::bail!("{config:?}");
    };
    let (list, nets) = if random.random() {
        (RangeList::Exclude, &config.exclude)
    } else {
        (RangeList::Include, included)
    };
    if nets.len() > 1 && random.random_bool(0.4) {
        let index = random.random_range(0..nets.len());
        let net = nets.get(index).context("an index in range")?;
        return Ok((list, RangeEdit::Remove, *net));
    }
    Ok((list, RangeEdit::Add, nested(random)))
}

/// Fails unless the stored entries and their record are those of a policy that is compiled anew.
fn is_as_compiled(
    writer: &Writer,
    pod: &Pod,
    config: &RedirectConfig,
    stored: &[(IpNet, CidrFlags)],
) -> Tested {
    let network = PodNetwork::of_row(&pod.row, stored, writer.ids(pod)?);
    let compiled = compile(config, &network)?;
    ensure!(
        stored == compiled.cidrs,
        "{stored:?}, not {:?}",
        compiled.cidrs
    );
    let record = writer.maps().record(pod.row.policy)?.context("a record")?;
    let entries = PolicyEntries {
        cidrs: &compiled.cidrs,
        ports: &compiled.ports,
        groups: &compiled.groups,
    };
    ensure!(
        record == entries.record(record.fingerprint) && record.fingerprint != Fingerprint::NONE
    );
    Ok(())
}

fn edits_of_one_range_store_what_a_new_policy_would() -> Tested {
    const EDITS: usize = 600;
    let begin = RedirectConfig {
        include: Include::Cidrs(vec!["36.152.44.0/24".parse()?]),
        exclude: vec!["198.51.100.0/24".parse()?, "2001:db8:7::/48".parse()?],
        ..RedirectConfig::default()
    };
    let first = Redirected::new("edits", &begin)?;
    let mut random = ChaCha8Rng::seed_from_u64(6);
    let mut in_place = 0;
    for edit in 0..EDITS {
        let mut writer = first.owner.writer()?;
        let pod = first.pod(&writer)?;
        let config = writer.config(&pod)?;
        let (list, how, net) = draw_edit(&config, &mut random)?;
        let change = writer.edit_ranges(&pod, list, how, &[net])?;
        let after = first.pod(&writer)?;
        in_place += usize::from(after.row.policy == pod.row.policy && after != pod);

        let config = writer.config(&after)?;
        let total = match (list, &config.include) {
            (RangeList::Include, Include::Cidrs(nets)) => nets.len(),
            _ => config.exclude.len(),
        };
        ensure!(change.total == total, "{edit}: {change:?}, {total} ranges");
        let mut stored = writer.maps().cidrs(after.row.policy)?;
        stored.sort_unstable_by_key(|(net, _)| *net);
        is_as_compiled(&writer, &after, &config, &stored)
            .with_context(|| format!("edit {edit}: {how:?} {list:?} {net}"))?;
        // An equal configuration finds the policy, whatever edits have led to it.
        if edit % 10 == 0 {
            writer.update(&after, None, &config)?;
            ensure!(first.pod(&writer)?.row.policy == after.row.policy, "{edit}");
        }
    }
    ensure!(in_place > EDITS / 4, "only {in_place} edits in place");
    eprintln!("{in_place} of {EDITS} edits in place");
    reaches(
        &first.scene,
        FAR_V4,
        if included_far(&first)? {
            "out4:15001"
        } else {
            "world4:80"
        },
    )
}

/// Whether the pod's ranges send connections to `FAR` to the proxy.
fn included_far(first: &Redirected) -> Result<bool> {
    let reader = first.owner.reader()?;
    let pod = first.pod(&reader)?;
    let far: std::net::IpAddr = FAR_V4.parse()?;
    let flags = reader.maps().cidr(pod.row.policy, far.into())?;
    Ok(flags.included() && !flags.excluded())
}
