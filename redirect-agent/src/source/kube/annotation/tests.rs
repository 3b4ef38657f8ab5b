use redirect_user::config::{Flags, Opt};

use super::table::{ANNOTATIONS, apply};

const SHORT: [(&str, &str); 10] = [
    ("mode", "sidecar.istio.io/interceptionMode"),
    ("-i", "traffic.sidecar.istio.io/includeOutboundIPRanges"),
    ("-x", "traffic.sidecar.istio.io/excludeOutboundIPRanges"),
    ("-b", "traffic.sidecar.istio.io/includeInboundPorts"),
    ("-d", "traffic.sidecar.istio.io/excludeInboundPorts"),
    ("-q", "traffic.sidecar.istio.io/includeOutboundPorts"),
    ("-o", "traffic.sidecar.istio.io/excludeOutboundPorts"),
    ("-c", "traffic.sidecar.istio.io/excludeInterfaces"),
    ("kubevirt", "traffic.sidecar.istio.io/kubevirtInterfaces"),
    ("reroute", "istio.io/reroute-virtual-interfaces"),
];

fn name(short: &str) -> &'static str {
    let mut names = SHORT.iter();
    names.find(|(known, _)| *known == short).unwrap().1
}

fn flags(annotations: &[(&str, &str)], mesh: Flags) -> Result<Flags, String> {
    let annotations = annotations
        .iter()
        .map(|(short, value)| (name(short).to_owned(), (*value).to_owned()));
    let mut flags = mesh;
    apply(&annotations.collect(), &mut flags)?;
    Ok(flags)
}

fn default() -> Flags {
    flags(&[], Flags::default()).unwrap()
}

#[test]
fn absent_annotations_have_the_defaults_of_istios_cni_plugin() {
    let expected = Flags::from_iter([
        (Opt::Mode, "REDIRECT"),
        (Opt::Include, "*"),
        (Opt::Exclude, ""),
        (Opt::InboundPorts, "*"),
        (Opt::InboundExcludePorts, "15020,15021,15090"),
        (Opt::IncludePorts, ""),
        (Opt::ExcludePorts, "15020"),
        (Opt::ExcludeInterfaces, ""),
        (Opt::VirtualInterfaces, ""),
    ]);
    assert_eq!(default(), expected);
}

#[test]
fn the_mesh_overrides_defaults_and_the_pod_overrides_the_mesh() {
    let mesh = Flags::from_iter([
        (Opt::Exclude, "10.0.0.0/8"),
        (Opt::InboundExcludePorts, "1"),
        (Opt::OutPort, "15101"),
    ]);
    let found = flags(&[], mesh.clone()).unwrap();
    assert_eq!(found.get(Opt::Exclude), Some("10.0.0.0/8"));
    assert_eq!(
        found.get(Opt::InboundExcludePorts),
        Some("1,15020,15021,15090")
    );
    assert_eq!(found.get(Opt::OutPort), Some("15101"));
    // An empty value overrides.
    let found = flags(&[("-x", ""), ("-d", "")], mesh).unwrap();
    assert_eq!(found.get(Opt::Exclude), Some(""));
    assert_eq!(
        found.get(Opt::InboundExcludePorts),
        Some("15020,15021,15090")
    );
}

#[test]
fn valid_values_are_passed_on_unchanged() {
    for (short, value) in [
        ("mode", "REDIRECT"),
        ("mode", "TPROXY"),
        ("-i", "*"),
        ("-i", ""),
        ("-i", "0.0.0.0/0"),
        ("-i", "10.0.0.0/8,fd00::/8"),
        ("-i", "127.0.0.1/8"),
        ("-x", ""),
        ("-x", "36.152.44.0/24,10.1.2.3/32"),
        ("-b", "*"),
        ("-b", ""),
        ("-b", " "),
        ("-b", " 80 , 90 "),
        ("-b", "0"),
        ("-b", "00080"),
        ("-b", "65535"),
        ("-q", "*"),
        ("-q", "443"),
        ("-o", ""),
        ("-o", "*"),
        ("-o", "5555,6666"),
        ("-o", "\t80\n"),
        ("-c", ""),
        ("-c", "eth0, net1"),
        ("-c", "a.b_c-d"),
        ("-c", "fifteen-letters"),
        ("kubevirt", "net1"),
        ("reroute", "net1"),
    ] {
        let found = flags(&[(short, value)], Flags::default()).unwrap();
        let annotation = ANNOTATIONS
            .iter()
            .find(|annotation| annotation.name == name(short))
            .unwrap();
        assert_eq!(found.get(annotation.option), Some(value), "{short}");
    }
}

#[test]
fn the_proxys_ports_are_added_to_the_excluded_inbound_ports() {
    for (given, expected) in [
        ("", "15020,15021,15090"),
        (" ", "15020,15021,15090"),
        ("3306", "3306,15020,15021,15090"),
        ("3333,4444", "3333,4444,15020,15021,15090"),
        ("15090,1,15020", "15090,1,15020,15021"),
        ("1,1", "1,15020,15021,15090"),
        (" 1 , 2 ", "1 , 2,15020,15021,15090"),
        ("*", "*,15020,15021,15090"),
    ] {
        let found = flags(&[("-d", given)], Flags::default()).unwrap();
        assert_eq!(
            found.get(Opt::InboundExcludePorts),
            Some(expected),
            "{given}"
        );
    }
}

#[test]
fn the_newer_name_of_virtual_interfaces_wins_even_if_it_is_empty() {
    for (new, expected) in [("net1", "net1"), ("", "")] {
        let given = [("kubevirt", "old0"), ("reroute", new)];
        let found = flags(&given, Flags::default()).unwrap();
        assert_eq!(found.get(Opt::VirtualInterfaces), Some(expected));
    }
}

#[test]
fn invalid_values_are_named_with_their_annotation() {
    for (short, value, why) in [
        ("mode", "", "write REDIRECT, TPROXY or NONE"),
        ("mode", "NONE", "write REDIRECT, TPROXY or NONE"),
        ("mode", "redirect", "write REDIRECT, TPROXY or NONE"),
        (
            "-i",
            "*,10.0.0.0/8",
            "\"*\" is a wildcard only as the whole value",
        ),
        ("-i", " *", "\" *\" "),
        (
            "-i",
            "10.0.0.0/8, 11.0.0.0/8",
            "\" 11.0.0.0/8\" contains a blank",
        ),
        ("-i", "10.0.0.1", "write 10.0.0.1/32"),
        ("-i", "10.0.0.0/8,", "\"\" is not an address range"),
        ("-i", "10.0.0.0/33", "bad prefix length"),
        ("-i", "10.0.0.0/08", "bad prefix length"),
        ("-i", "fe80::1%eth0/64", "\"fe80::1%eth0/64\" "),
        ("-x", "*", "\"*\" is a wildcard only as the whole value"),
        ("-x", "010.0.0.0/8", "is not an address range"),
        ("-x", "36.152.44.0/24,x", "\"x\" is not an address range"),
        ("-b", "80,", "\"\" is not a port"),
        ("-b", "80,,90", "\"\" is not a port"),
        ("-b", "http", "\"http\" is not a port"),
        ("-b", "8000:9000", "\"8000:9000\" is not a port"),
        ("-b", "-1", "\"-1\" is not a port"),
        ("-b", "+1", "\"+1\" is not a port"),
        ("-b", "65536", "\"65536\" is not a port"),
        ("-b", "80,*", "\"*\" is not a port"),
        ("-d", "80,", "\"\" is not a port"),
        ("-q", "8000:9000", "\"8000:9000\" is not a port"),
        ("-o", "x", "\"x\" is not a port"),
        ("-c", "eth0,", "\"\" is not an interface's name"),
        ("-c", "0eth", "\"0eth\" is not an interface's name"),
        ("-c", "_eth", "\"_eth\" is not an interface's name"),
        ("-c", "a/b", "\"a/b\" is not an interface's name"),
        ("-c", "eth0:1", "\"eth0:1\" is not an interface's name"),
        ("-c", "eth0@if2", "\"eth0@if2\" is not an interface's name"),
        ("-c", "a b", "\"a b\" is not an interface's name"),
        ("-c", "veth+", "\"veth+\" is not an interface's name"),
        ("-c", "sixteen-letters0", "is not an interface's name"),
        ("kubevirt", "veth+", "\"veth+\" is not an interface's name"),
        ("reroute", ",", "\"\" is not an interface's name"),
    ] {
        let error = flags(&[(short, value)], Flags::default()).unwrap_err();
        let start = format!("annotation {} \"{value}\": ", name(short));
        assert!(error.starts_with(&start), "{error}");
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn all_invalid_annotations_are_named_at_once() {
    let error = flags(&[("-b", "x"), ("-x", "y"), ("-i", "*")], Flags::default()).unwrap_err();
    let named: Vec<_> = error
        .split("; ")
        .map(|problem| problem.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(named, [name("-x"), name("-b")]);
}
