//! Tests of values that are refused, and of values that are accepted with a warning.

use super::*;

const WILDCARD: &str =
    "is a wildcard only as the whole value of -i or -b: list the elements instead";

/// Flag or variable, its value, its name in the message, the bad element, and the fault.
const BAD: &[[&str; 5]] = &[
    [
        "-o",
        "80,70000",
        "-o/--istio-local-outbound-ports-exclude",
        "70000",
        "is above 65535: write a number from 0 to 65535",
    ],
    [
        "ISTIO_OUTBOUND_PORTS",
        "http",
        "ISTIO_OUTBOUND_PORTS (environment)",
        "http",
        "is a service name: write the port's number",
    ],
    [
        "-x",
        "10.0.0.0/8,10.1.2.3",
        "-x/--istio-service-exclude-cidr",
        "10.1.2.3",
        "has no prefix length: write 10.1.2.3/32",
    ],
    [
        "-i",
        "10.0.0.0/8, fd00::/8",
        "-i/--istio-service-cidr",
        " fd00::/8",
        "contains a blank: remove it",
    ],
    [
        "-i",
        "*,10.0.0.0/8",
        "-i/--istio-service-cidr",
        "*",
        WILDCARD,
    ],
    [
        "-i",
        " *",
        "-i/--istio-service-cidr",
        " *",
        "contains a blank: remove it",
    ],
    ["-b", "80,*", "-b/--istio-inbound-ports", "*", WILDCARD],
    ["-q", "*", "-q/--istio-outbound-ports", "*", WILDCARD],
    [
        "-p",
        "0",
        "-p/--envoy-port",
        "0",
        "is not a port to listen on: write a number from 1 to 65535",
    ],
    [
        "-e",
        "1:2",
        "-e/--inbound-tunnel-port",
        "1:2",
        "is not a single port: write a number from 0 to 65535",
    ],
    [
        "-u",
        "istio-proxy",
        "-u/--proxy-uid",
        "istio-proxy",
        "is not a numeric id: write a number from 0 to 4294967294",
    ],
    [
        "ISTIO_OUTBOUND_OWNER_GROUPS",
        "*,1",
        "ISTIO_OUTBOUND_OWNER_GROUPS (environment)",
        "*",
        "is neither a group of this system nor a numeric id: write a number from 0 to 4294967294",
    ],
    [
        "--outbound-owner-groups-exclude",
        "1,1000-2000",
        "--outbound-owner-groups-exclude",
        "1000-2000",
        "is neither a group of this system nor a numeric id: write a number from 0 to 4294967294",
    ],
    [
        "-c",
        "eth0,eth1:1",
        "-c/--istio-exclude-interfaces",
        "eth1:1",
        "is not an interface's name: write at most 15 letters, digits and signs other than / : ! \" ' \\, with + at the end to match every name that begins with it",
    ],
    [
        "-d",
        "1\n2",
        "-d/--istio-local-exclude-ports",
        "1\n2",
        "is not a port: write a number from 0 to 65535, or a range such as 8000:9000",
    ],
];

#[test]
fn bad_values_name_option_element_and_remedy() {
    for &[given, value, name, element, fault] in BAD {
        let error = one(given, value).expect_err(given).to_string();
        let (value, element) = (value.escape_debug(), element.escape_debug());
        assert_eq!(
            error,
            format!("parse {name} \"{value}\": \"{element}\" {fault}")
        );
    }
}

/// A list of 65 groups.
const MANY: &str = "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,\
                    1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,\
                    1,1,1,1,1,1,1,1,1,1,1,1,1,1,1";

/// Flag or variable, its value, the message's beginning after the verb, and a part of the remedy.
const UNSUPPORTED: &[[&str; 4]] = &[
    [
        "-u",
        "1,2,3,4,5",
        "-u/--proxy-uid \"1,2,3,4,5\": not supported yet",
        "give no more than four uids",
    ],
    [
        "-g",
        "1,1,1,1,1",
        "-g/--proxy-gid \"1,1,1,1,1\": not supported yet",
        "give no more than four gids",
    ],
    [
        "-c",
        "a,b,c,d,e,f,g,h,i",
        "-c/--istio-exclude-interfaces \"a,b,c,d,e,f,g,h,i\": not supported yet",
        "give no more than eight names",
    ],
    [
        "-k",
        "net1",
        "-k/--kube-virt-interfaces \"net1\"",
        "forwarded",
    ],
    [
        "-x",
        "*",
        "-x/--istio-service-exclude-cidr \"*\"",
        "leave -i empty",
    ],
    [
        "-n",
        "",
        "-n/--dry-run: not supported yet",
        "redirectctl rules --format iptables",
    ],
    [
        "DRY_RUN",
        "true",
        "DRY_RUN (environment): not supported yet",
        "redirectctl rules --format iptables",
    ],
    [
        "--skip-rule-apply",
        "",
        "--skip-rule-apply: not supported yet",
        "do not run this command",
    ],
    [
        "--run-validation",
        "",
        "--run-validation: not supported yet",
        "redirectctl status",
    ],
    [
        "INVALID_DROP",
        "1",
        "INVALID_DROP (environment): not supported, and never will be",
        "no packets",
    ],
    [
        "--cleanup-only",
        "",
        "--cleanup-only: not supported, and never will be",
        "redirectctl detach",
    ],
    [
        "--outbound-owner-groups",
        MANY,
        "--outbound-owner-groups \"1,1,",
        "--outbound-owner-groups-exclude",
    ],
];

#[test]
fn unsupported_options_are_refused_by_name_and_reason() {
    for &[given, value, start, remedy] in UNSUPPORTED {
        let error = one(given, value).expect_err(given).to_string();
        assert!(error.starts_with(&format!("use {start}")), "{error}");
        assert!(error.contains(remedy), "{error}");
        assert!(!error.contains('\n') && !error.ends_with('.'), "{error}");
    }
    for refusal in REFUSALS {
        let name = refusal.option.variables();
        let tested = |row: &&[&str; 4]| {
            let [given, _, start, _] = row;
            start.starts_with(&refusal.option.name()) || name.iter().any(|name| name == given)
        };
        assert!(
            UNSUPPORTED.iter().any(|row| tested(&row)),
            "{refusal:?} has a case"
        );
    }
}

#[test]
fn several_problems_are_reported_at_once() {
    let error = resolved(
        &["-c", "a,b,c,d,e,f,g,h,i", "-p", "x", "-o", "1,70000,http"],
        &[],
    )
    .expect_err("bad");
    assert_eq!(error.problems.len(), 4);
    assert!(matches!(
        &error.problems[3],
        Problem::Refused {
            reason: Reason::NotYet,
            ..
        }
    ));
    let text = error.to_string();
    assert!(
        text.starts_with("4 values cannot be used:\n  parse -p/"),
        "{text}"
    );
}

/// Flag or variable, its value, and the beginning of the warning.
const NOTICED: &[[&str; 3]] = &[
    [
        "-t",
        "1337",
        "-t/--istio-inbound-tproxy-mark \"1337\": it has no effect",
    ],
    [
        "-r",
        "133",
        "-r/--istio-inbound-tproxy-route-table \"133\": it has no effect",
    ],
    [
        "--native-nftables",
        "",
        "--native-nftables: it has no effect",
    ],
    [
        "NATIVE_NFTABLES",
        "true",
        "NATIVE_NFTABLES (environment): it has no effect",
    ],
    [
        "--force-iptables-binary",
        "nft",
        "--force-iptables-binary \"nft\": it has no effect",
    ],
    ["--force-apply", "", "--force-apply: it has no effect"],
    ["--reconcile", "", "--reconcile: it has no effect"],
    ["--cni-mode", "", "--cni-mode: it has no effect"],
    [
        "--network-namespace",
        "x",
        "--network-namespace \"x\": it has no effect",
    ],
    [
        "--iptables-probe-port",
        "1",
        "--iptables-probe-port \"1\": it has no effect",
    ],
    [
        "-m",
        "NONE",
        "-m/--istio-inbound-interception-mode \"NONE\": it means REDIRECT",
    ],
    [
        "-m",
        "tproxy",
        "-m/--istio-inbound-interception-mode \"tproxy\": it means REDIRECT",
    ],
    [
        "--capture-all-dns",
        "",
        "--capture-all-dns: it has no effect without --redirect-dns",
    ],
    [
        "--dns-servers",
        "10.0.0.1",
        "--dns-servers: it has no effect without --redirect-dns",
    ],
    [
        "--probe-timeout",
        "1s",
        "--probe-timeout \"1s\": it has no effect",
    ],
];

#[test]
fn options_without_effect_are_accepted_with_a_warning() {
    for &[given, value, start] in NOTICED {
        let warnings = one(given, value).expect("accepted").warnings;
        assert!(
            matches!(warnings.as_slice(), [one] if one.starts_with(start)),
            "{warnings:?}"
        );
    }
}

#[test]
fn supported_options_are_accepted_without_a_warning() {
    let silent: [&[&str]; 8] = [
        &[],
        &["--dual-stack"],
        &["-b", ""],
        &["-m", "REDIRECT"],
        &["-m", "TPROXY"],
        &[
            "--redirect-dns",
            "--capture-all-dns",
            "--dns-servers",
            "10.0.0.1",
        ],
        &["--native-nftables=false"],
        &["-c", "", "-k", "", "--redirect-dns=false"],
    ];
    for arguments in silent {
        assert!(
            resolved(arguments, &[])
                .expect("accepted")
                .warnings
                .is_empty(),
            "{arguments:?}"
        );
    }
}
