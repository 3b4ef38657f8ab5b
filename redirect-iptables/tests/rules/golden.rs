//! Istio's own golden texts, from the folder that `REDIRECT_GOLDEN` names, or from `shared/istio/golden` beside the
//! repository. They are not part of the project, so these tests are skipped without them, even where no other test may
//! be skipped.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args as _, Command, FromArgMatches as _};
use redirect_iptables::rules::{Family, restore};
use redirect_testkit::cases;
use redirect_user::config::{Environment, Flags, RedirectConfig, Resolved, resolve};

use crate::{Cases, Needs, Tested};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Golden => [
        supported_configurations_render_istios_texts,
        every_golden_text_is_listed,
    ],
    Needs::Nothing => [unsupported_configurations_are_refused],
};

/// The folder of the texts, or the reason to skip the tests.
pub(crate) fn folder() -> Result<PathBuf, String> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = package.ancestors().nth(2).unwrap_or(package);
    let folder = env::var_os("REDIRECT_GOLDEN")
        .map_or_else(|| beside.join("shared/istio/golden"), PathBuf::from);
    if folder.is_dir() {
        Ok(folder)
    } else {
        Err("Istio's golden texts are not here: set REDIRECT_GOLDEN to their folder".to_owned())
    }
}

/// A text that `restore` reproduces: its file, the arguments, and whether IPv6 is on.
pub(crate) struct Same {
    file: &'static str,
    arguments: &'static str,
    ipv6: bool,
}

const fn same(file: &'static str, arguments: &'static str) -> Same {
    Same {
        file,
        arguments,
        ipv6: false,
    }
}

/// Groups that Istio's tests name. iptables resolves a name when it reads the rule, redirect-user when it reads the
/// option.
const GROUPS: &[(&str, u32)] = &[("java", 3000), ("ftp", 21)];

pub(crate) const SAME: &[Same] = &[
    same("istio-iptables/empty.golden", ""),
    same("istio-iptables/inbound-ports-wildcard.golden", "-b *"),
    same(
        "istio-iptables/inbound-ports-include.golden",
        "-b 32000,31000",
    ),
    same(
        "istio-iptables/basic-exclude-nic.golden",
        "-c not-istio-nic",
    ),
    same("istio-iptables/ipnets.golden", "-i 10.0.0.0/8"),
    same(
        "istio-iptables/outbound-ports-include.golden",
        "-q 32000,31000",
    ),
    Same {
        ipv6: true,
        ..same("istio-iptables/ipv6-inbound-ports.golden", "-b 4000,5000")
    },
    same(
        "istio-iptables/outbound-owner-groups.golden",
        "--outbound-owner-groups java,202",
    ),
    // Istio's test turns DNS capture on, but names no server, which turns it off.
    Same {
        ipv6: true,
        ..same(
            "istio-iptables/ipv6-dns-outbound-owner-groups-exclude.golden",
            "--outbound-owner-groups-exclude 888,ftp",
        )
    },
    same(
        "istio-cni/basic.txt.golden",
        "-i * -b * -d 15020,15021,15090 -o 15020",
    ),
    same(
        "istio-cni/include-exclude-ports.txt.golden",
        "-i * -b 1111,2222 -d 3333,4444 -o 5555,6666",
    ),
    same(
        "istio-cni/custom-uid.txt.golden",
        "-u 1000670000 -g 1000670001 -i * -b * -d 15020,15021,15090 -o 15020",
    ),
    same(
        "istio-cni/dns.txt.golden",
        "-i * -b * -d 15020,15021,15090 -o 15020 --redirect-dns --capture-all-dns",
    ),
    same(
        "istio-iptables/ip-range.golden",
        "-x 1.1.0.0/16 -i 9.9.0.0/16 --redirect-dns --dns-servers 127.0.0.53 -u 3,4 -g 1,2",
    ),
    same(
        "istio-iptables/loopback-outbound-iprange.golden",
        "-i 127.1.2.3/32 --redirect-dns --dns-servers 127.0.0.53 -u 3,4 -g 1,2",
    ),
    Same {
        ipv6: true,
        ..same(
            "istio-iptables/dns-uid-gid.golden",
            "--redirect-dns --dns-servers 127.0.0.53,::127.0.0.53 -u 3,4 -g 1,2",
        )
    },
    same(
        "istio-iptables/inbound-ports-tproxy.golden",
        "-b 32000,31000 -m TPROXY",
    ),
    same(
        "istio-cni/tproxy.txt.golden",
        "-i * -b * -d 15020,15021,15090 -o 15020 -m TPROXY",
    ),
];

/// A text of an unsupported configuration: its file, the arguments, and the option that is refused.
struct Refused {
    file: &'static str,
    arguments: &'static str,
    option: &'static str,
}

const fn refused(file: &'static str, arguments: &'static str, option: &'static str) -> Refused {
    Refused {
        file,
        arguments,
        option,
    }
}

const REFUSED: &[Refused] = &[
    refused(
        "istio-iptables/kube-virt-interfaces.golden",
        "-k eth1,eth2 -i *",
        "--kube-virt-interfaces",
    ),
    refused(
        "istio-iptables/ipv6-uid-gid.golden",
        "-b 4000,5000 -d 6000,7000 -k eth0,eth1 -x 2001:db8::/32 -i 2001:db8::/32 -u 3,4 -g 1,2",
        "--kube-virt-interfaces",
    ),
    refused(
        "istio-iptables/drop-invalid.golden",
        "--drop-invalid",
        "--drop-invalid",
    ),
];

pub(crate) fn resolved(arguments: &str) -> Result<Resolved> {
    resolved_words(&arguments.split_whitespace().collect::<Vec<_>>())
}

pub(crate) fn resolved_words(words: &[&str]) -> Result<Resolved> {
    let words = ["test"].iter().chain(words);
    let matches = Flags::augment_args(Command::new("test")).try_get_matches_from(words)?;
    let flags = Flags::from_arg_matches(&matches)?;
    let environment = Environment::default();
    let group = |name: &str| {
        GROUPS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, gid)| *gid)
    };
    Ok(resolve(&flags, &environment, &|_: &str| None, &group)?)
}

/// The text of one of Istio's tests.
fn golden(folder: &Path, file: &str) -> Result<String> {
    let path = folder.join(file);
    let golden = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    // Rules have the address as it is printed, not as it was given.
    let golden = golden.replace("::127.0.0.53/128", "::7f00:35/128");
    // The file also records the commands that istio-iptables runs before and after.
    let golden = golden
        .split_inclusive('\n')
        .filter(|line| !["iptables-save\n", "ip6tables-save\n"].contains(line))
        .collect();
    Ok(GROUPS.iter().fold(golden, |text, (name, gid)| {
        text.replace(
            &format!("--gid-owner {name} "),
            &format!("--gid-owner {gid} "),
        )
    }))
}

impl Same {
    /// The configuration of the options.
    pub(crate) fn config(&self) -> Result<RedirectConfig> {
        Ok(resolved(self.arguments)?.config)
    }

    /// Istio's text for IPv4, and for IPv6 if it has one.
    pub(crate) fn texts(&self) -> Result<(String, Option<String>)> {
        let folder = folder().map_err(anyhow::Error::msg)?;
        let both = golden(&folder, self.file)?;
        let mut tables = BTreeSet::new();
        // The second table of a name is IPv6's.
        let second = both
            .lines()
            .position(|line| line.starts_with('*') && !tables.insert(line));
        let (mut lines, v4) = (both.split_inclusive('\n'), second.unwrap_or(usize::MAX));
        let v4: String = lines.by_ref().take(v4).collect();
        Ok((v4, self.ipv6.then(|| lines.collect())))
    }
}

fn supported_configurations_render_istios_texts() -> Tested {
    let folder = folder().map_err(anyhow::Error::msg)?;
    for Same {
        file,
        arguments,
        ipv6,
    } in SAME
    {
        let golden = golden(&folder, file)?;
        let config = resolved(arguments)?.config;
        let v6 = ipv6.then(|| restore(&config, Family::V6));
        let ours = restore(&config, Family::V4) + &v6.unwrap_or_default();
        ensure!(
            ours == golden,
            "{file}: {arguments}\nrendered:\n{ours}\nIstio's:\n{golden}"
        );
    }
    Ok(())
}

/// If this test fails, the configuration is supported now and belongs in the other list.
fn unsupported_configurations_are_refused() -> Tested {
    for Refused {
        file,
        arguments,
        option,
    } in REFUSED
    {
        let Err(error) = resolved(arguments) else {
            anyhow::bail!("{file}: `{arguments}` is not refused any more: compare its text");
        };
        let text = format!("{error:#}");
        ensure!(text.contains(option), "{file}: no {option} in {text:?}");
    }
    Ok(())
}

fn every_golden_text_is_listed() -> Tested {
    let folder = folder().map_err(anyhow::Error::msg)?;
    let mut found = BTreeSet::new();
    for kind in ["istio-iptables", "istio-cni"] {
        for entry in fs::read_dir(folder.join(kind))? {
            found.insert(format!("{kind}/{}", entry?.file_name().to_string_lossy()));
        }
    }
    let same = SAME.iter().map(|row| row.file);
    let listed: BTreeSet<_> = same
        .chain(REFUSED.iter().map(|row| row.file))
        .map(str::to_owned)
        .collect();
    assert_eq!(found, listed, "golden texts found, and listed here");
    Ok(())
}
