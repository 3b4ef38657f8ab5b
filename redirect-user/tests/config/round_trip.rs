//! Tests with random texts: no parser panics, and a written value is read back unchanged.

use super::*;

proptest! {
    #[test]
    fn parsing_never_panics(texts in prop::collection::vec(".*", Opt::ALL.len())) {
        let mut variables = BTreeMap::new();
        for (option, text) in Opt::ALL.iter().zip(&texts) {
            variables.extend(option.variables().into_iter().map(|name| (name, text.clone())));
        }
        let text = texts.join("\n");
        let _resolved = resolve(&Flags::default(), &variables.into(), &|_: &str| None, &|_: &str| None)
            .map_err(|error| error.to_string());
        let _ranges = parse_cidr_file(&text).map_err(|error| error.to_string());
    }

    #[test]
    fn ports_round_trip(pairs in prop::collection::vec(any::<(u16, u16)>(), 0..20)) {
        let ranges: Vec<PortRange> = pairs
            .into_iter()
            .map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) })
            .collect();
        let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        prop_assert_eq!(config(&["-o", &texts.join(",")], &[]).exclude_ports, ranges);
    }

    #[test]
    fn parsing_ports_never_panics(text in "[0-9:x*, -]{0,12}") {
        let _range = parse_port_range(&text);
    }

    #[test]
    fn ranges_round_trip(
        v4 in prop::collection::vec((any::<[u8; 4]>(), 0_u8..=32), 0..20),
        v6 in prop::collection::vec((any::<[u8; 16]>(), 0_u8..=128), 0..20),
    ) {
        let v4 = v4.into_iter().map(|(a, n)| format!("{}/{n}", std::net::Ipv4Addr::from(a)));
        let v6 = v6.into_iter().map(|(a, n)| format!("{}/{n}", std::net::Ipv6Addr::from(a)));
        let texts: Vec<String> = v4.chain(v6).collect();
        let exclude = config(&["-x", &texts.join(",")], &[]).exclude;
        let written: Vec<String> = exclude.iter().map(ToString::to_string).collect();
        prop_assert_eq!(&written, &texts);
        prop_assert_eq!(parse_cidr_file(&texts.join("\n")), Ok(exclude));
    }
}
