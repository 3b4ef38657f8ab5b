//! Tests of the meaning of options, and of their precedence.

use super::*;

#[test]
fn the_injected_arguments_work_unchanged() {
    let arguments = "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x  -b * -d 15090,15021,15020";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let Resolved { config, warnings } = resolved(&arguments, &[]).expect("valid");
    let expected = RedirectConfig {
        include: Include::Any,
        inbound: Inbound {
            include_ports: InboundPorts::Any,
            exclude_ports: single(&[15090, 15021, 15020]),
            ..Inbound::default()
        },
        ..RedirectConfig::default()
    };
    assert_eq!(config, expected);
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn long_flags_are_the_same_options() {
    let long = "--envoy-port=16001 --inbound-capture-port 16006 --inbound-tunnel-port=16008 \
                --proxy-uid=1 --proxy-gid=2 --istio-service-cidr=10.0.0.0/8,fd00::/8 \
                --istio-service-exclude-cidr=10.1.0.0/16 --istio-outbound-ports=80,8000:9000 \
                --istio-local-outbound-ports-exclude=22";
    let short = "-p 16001 -z16006 -e 16008 -u 1 -g 2 -i 10.0.0.0/8,fd00::/8 -x 10.1.0.0/16 \
                 -q 80,8000:9000 -o 22";
    let parse = |text: &str| config(&text.split(' ').collect::<Vec<_>>(), &[]);
    assert_eq!(parse(long), parse(short));
    assert_eq!(parse(short).include_ports.len(), 2);
    assert_eq!(parse(short).proxy_gids.as_slice(), [2]);
}

#[test]
fn every_option_is_a_flag_and_every_flag_is_an_option() {
    let command = Flags::augment_args(clap::Command::new("test"));
    for option in Opt::ALL {
        let spec = option.spec();
        let found = command
            .get_arguments()
            .find(|arg| arg.get_long() == Some(spec.long));
        if let Bound::Only(_) = spec.bound {
            assert!(found.is_none(), "{option:?}");
        } else {
            assert_eq!(
                found.expect(spec.long).get_short(),
                spec.short,
                "{option:?}"
            );
        }
    }
    let flags = Opt::ALL
        .iter()
        .filter(|option| !option.spec().long.is_empty())
        .count();
    assert_eq!(command.get_arguments().count(), flags);
    Cli::command().debug_assert();
}

#[test]
fn every_flag_reaches_its_option_and_beats_its_variables() {
    for option in Opt::ALL
        .iter()
        .copied()
        .filter(|option| !option.spec().long.is_empty())
    {
        let spec = option.spec();
        let (text, other) = match spec.kind {
            Kind::Text => ("7", "8"),
            Kind::Switch => ("true", "false"),
        };
        let given = flags(&[&format!("--{}={text}", spec.long)]).expect(spec.long);
        let names = option.variables();
        let environment: Environment = names.iter().map(|name| (name.as_str(), other)).collect();
        let outcome = |flags: &Flags, environment: &Environment| {
            resolve(flags, environment, &|_: &str| None, &|_: &str| None)
        };
        let alone = outcome(&given, &Environment::default());
        assert_eq!(outcome(&given, &environment), alone, "{}", spec.long);
        if option != Opt::Mode {
            let nothing = outcome(&Flags::default(), &Environment::default());
            assert_ne!(alone, nothing, "{}", spec.long);
        }
    }
}

#[test]
fn flag_beats_environment_beats_default() {
    let port = |arguments: &[&str], variables| config(arguments, variables).in_port;
    assert_eq!(port(&[], &[]), 15006);
    assert_eq!(port(&[], &[("INBOUND_CAPTURE_PORT", "1")]), 1);
    assert_eq!(port(&["-z", "2"], &[("INBOUND_CAPTURE_PORT", "1")]), 2);
    assert_eq!(port(&["-z", "2", "-z", "3"], &[]), 3);
    assert_eq!(config(&[], &[("ENVOY_PORT", "1")]).out_port, 15001);

    // A flag with an empty value still wins.
    let variables = [("ISTIO_SERVICE_CIDR", "*")];
    assert_eq!(config(&[], &variables).include, Include::Any);
    assert_eq!(config(&["-i", ""], &variables).include, Include::default());
}

#[test]
fn additional_variables_win_and_malformed_booleans_are_ignored() {
    let cases: [(Variables<'_>, bool); 7] = [
        (&[("REDIRECT_DNS", "true")], true),
        (&[("REDIRECT_DNS", "yes")], false),
        (&[("REDIRECT_DNS", "")], false),
        (&[("ISTIO_META_DNS_CAPTURE", "1")], true),
        (
            &[
                ("REDIRECT_DNS", "true"),
                ("ISTIO_META_DNS_CAPTURE", "false"),
            ],
            false,
        ),
        (
            &[("REDIRECT_DNS", "false"), ("ISTIO_META_DNS_CAPTURE", "T")],
            true,
        ),
        (
            &[("REDIRECT_DNS", "true"), ("ISTIO_META_DNS_CAPTURE", "yes")],
            true,
        ),
    ];
    for (variables, expected) in cases {
        assert_eq!(
            config(&[], variables).dns.redirect,
            expected,
            "{variables:?}"
        );
    }
    let variables = [("ISTIO_META_DNS_CAPTURE", "true")];
    assert!(!config(&["--redirect-dns=false"], &variables).dns.redirect);
    let drop_invalid = [("DROP_INVALID", "false"), ("INVALID_DROP", "true")];
    assert!(resolved(&[], &drop_invalid).is_err());
    let dual_stack = [("ISTIO_DUAL_STACK", "true"), ("DUAL_STACK", "true")];
    assert!(resolved(&[], &dual_stack).is_ok());
}

#[test]
fn switches_are_written_as_in_go() {
    for (argument, expected) in [
        ("--native-nftables", Some("true")),
        ("--native-nftables=true", Some("true")),
        ("--native-nftables=T", Some("true")),
        ("--native-nftables=0", Some("false")),
        ("--native-nftables=False", Some("false")),
    ] {
        assert_eq!(
            flags(&[argument]).expect(argument).get(Opt::NativeNftables),
            expected,
            "{argument}"
        );
    }
    assert_eq!(
        flags(&["-n"]).expect("short").get(Opt::DryRun),
        Some("true")
    );
    assert!(flags(&["--native-nftables=yes"]).is_err());
    assert!(
        flags(&["--native-nftables", "true"]).is_err(),
        "a switch takes its value after ="
    );
    assert!(flags(&["--iptables-trace-logging"]).is_err());
}

#[test]
fn proxy_ids_fall_back_to_the_proxys_user() {
    let owner = |arguments: &[&str], variables| {
        let config = config(arguments, variables);
        (config.proxy_uids.to_string(), config.proxy_gids.to_string())
    };
    let is = |uids: &str, gids: &str| (uids.to_owned(), gids.to_owned());
    assert_eq!(owner(&[], &[]), is("1400", "1400"));
    assert_eq!(owner(&[], &[("ENVOY_USER", "envoy")]), is("1500", "1500"));
    assert_eq!(
        owner(&[], &[("ENVOY_USER", "nobody-here")]),
        is("1337", "1337")
    );
    assert_eq!(
        owner(&["-u", "7"], &[("ENVOY_USER", "envoy")]),
        is("7", "7")
    );
    assert_eq!(owner(&["-g", "8"], &[]), is("1400", "8"));
    assert_eq!(owner(&["-u", "0", "-g", " 9 "], &[]), is("0", "9"));
    assert_eq!(owner(&["-u", "1337,"], &[]), is("1337", "1337"));
    assert_eq!(
        owner(&[], &[("PROXY_UID", "5"), ("PROXY_GID", "6")]),
        is("5", "6")
    );
    assert_eq!(owner(&["-u", "4,3,4,1"], &[]), is("4,3,4,1", "4,3,4,1"));
    assert_eq!(owner(&["-u", "3, 4", "-g", ",2,1,"], &[]), is("3,4", "2,1"));
}

#[test]
fn owner_groups_are_names_or_numbers() {
    let groups = |arguments: &[&str], variables: Variables<'_>| {
        let config = config(arguments, variables);
        (config.owner_groups, config.owner_groups_exclude)
    };
    let only = |groups: &[u32]| (OwnerGroups::List(groups.to_vec()), Vec::new());
    let but = |groups: &[u32]| (OwnerGroups::Any, groups.to_vec());
    let (include, exclude) = (
        "ISTIO_OUTBOUND_OWNER_GROUPS",
        "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE",
    );
    assert_eq!(groups(&[], &[]), but(&[]));
    assert_eq!(groups(&[], &[(include, "*")]), but(&[]));
    assert_eq!(groups(&[], &[(include, "")]), only(&[]), "set but empty");
    assert_eq!(groups(&[], &[(include, "staff, 7,")]), only(&[50, 7]));
    assert_eq!(groups(&[], &[(exclude, "7,staff")]), but(&[7, 50]));
    let both = [(include, "7"), (exclude, "no-such-group")];
    assert_eq!(groups(&[], &both), only(&[7]), "the second one is not read");
    let warnings = resolved(&[], &both).expect("both").warnings;
    assert_eq!(
        warnings,
        [
            "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE (environment) \"no-such-group\": it has no \
             effect: it counts only if --outbound-owner-groups is *"
        ]
    );
    let flag = "--outbound-owner-groups";
    assert_eq!(groups(&[flag, "*"], &both[..1]), but(&[]), "a flag wins");
    assert_eq!(
        groups(&["--outbound-owner-groups-exclude=8"], &[]),
        but(&[8])
    );
    let most = ["1"; 64].join(",");
    assert_eq!(groups(&[flag, &most], &[]), only(&[1; 64]));
}

#[test]
fn lists_have_istios_syntax() {
    let ports = |text: &str| config(&["-o", text], &[]).exclude_ports;
    assert_eq!(ports("6000,7000,"), single(&[6000, 7000]));
    assert_eq!(ports(",,80,,80"), single(&[80, 80]), "no de-duplication");
    assert_eq!(
        ports("80, 90"),
        single(&[80, 90]),
        "iptables-restore absorbs blanks"
    );
    assert_eq!(ports("0"), single(&[0]));
    assert!(
        config(&["-i", "127.0.0.1/8,fd00::/8"], &[])
            .include
            .has_loopback()
    );
}
