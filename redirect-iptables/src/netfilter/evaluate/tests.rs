//! Walks of one packet through small rulesets.

use redirect_common::facts::Owner;

use crate::{
    netfilter::{Packet, Protocol, Verdict, Via, outbound, parse},
    rules::Family,
};

fn app() -> Packet {
    Packet {
        protocol: Protocol::Tcp,
        source: "10.0.0.2".parse().unwrap(),
        source_port: None,
        destination: "203.0.113.9".parse().unwrap(),
        destination_port: 80,
        via: Via::Unnamed,
        owner: Some(Owner {
            uid: 1000,
            gid: 1000,
        }),
    }
}

/// The verdict and the line of the rule that gave it; the first rule is on line 3.
fn of(table: &str, rules: &str, packet: &Packet) -> (Verdict, usize) {
    let text = format!("*{table}\n:A - [0:0]\n{rules}\nCOMMIT\n");
    let rules = parse(Family::V4, &text).expect(&text);
    let answer = outbound(&rules, packet);
    (answer.verdict, answer.decided_by.line())
}

#[test]
fn a_packet_leaves_chains_as_in_the_kernel() {
    use Verdict::{Direct, Drop, Redirect};
    let cases = [
        ("", Direct, 0),
        ("-A OUTPUT -p tcp -j REDIRECT --to-ports 1", Redirect(1), 3),
        ("-A OUTPUT -p tcp -j REDIRECT", Redirect(80), 3),
        ("-A OUTPUT -p udp -j REDIRECT --to-ports 1", Direct, 0),
        // RETURN goes on after the jump, ACCEPT does not.
        (
            "-A A -j RETURN\n-A OUTPUT -j A\n-A OUTPUT -p tcp -j REDIRECT --to-ports 2",
            Redirect(2),
            5,
        ),
        (
            "-A A -j ACCEPT\n-A OUTPUT -j A\n-A OUTPUT -p tcp -j REDIRECT --to-ports 2",
            Direct,
            3,
        ),
        // A chain entered by -g returns to the caller of its caller.
        (
            "-A A -p udp -j DROP\n-A OUTPUT -g A\n-A OUTPUT -p tcp -j REDIRECT --to-ports 2",
            Direct,
            0,
        ),
        ("-A OUTPUT -j DROP", Drop, 3),
        ("-P OUTPUT DROP\n-A OUTPUT -d 1.1.1.1 -j ACCEPT", Drop, 0),
        (
            "-P OUTPUT DROP\n-A OUTPUT -d 203.0.113.0/24 -j ACCEPT",
            Direct,
            4,
        ),
        ("-P OUTPUT DROP\n-A OUTPUT -j RETURN", Drop, 0),
    ];
    for (rules, verdict, line) in cases {
        assert_eq!(of("nat", rules, &app()), (verdict, line), "{rules}");
    }
}

#[test]
fn an_unknown_part_counts_only_if_it_can_be_reached_and_matters() {
    use Verdict::{Direct, Redirect, Unknown};
    let redirect = "\n-A OUTPUT -p tcp -j REDIRECT --to-ports 1";
    let cases = [
        (
            "-A OUTPUT -m addrtype --dst-type LOCAL -j RETURN",
            Unknown,
            3,
        ),
        (
            "-A OUTPUT -p udp -m addrtype --dst-type LOCAL -j RETURN",
            Redirect(1),
            4,
        ),
        (
            "-A OUTPUT -p tcp -j DNAT --to-destination 1.2.3.4:5",
            Unknown,
            3,
        ),
        (
            "-A OUTPUT -p udp -j DNAT --to-destination 1.2.3.4:5",
            Redirect(1),
            4,
        ),
        ("-A OUTPUT -m addrtype --dst-type LOCAL", Redirect(1), 4),
        (
            "-A OUTPUT -m owner --gid-owner 5 --suppl-groups -j RETURN",
            Unknown,
            3,
        ),
        ("-A OUTPUT -p tcp -m tcp --sport 5 -j RETURN", Unknown, 3),
        ("-A A -j A\n-A OUTPUT -j A", Unknown, 3),
    ];
    for (rules, verdict, line) in cases {
        let answer = of("nat", &format!("{rules}{redirect}"), &app());
        assert_eq!(answer, (verdict, line), "{rules}");
    }
    let alone = of("nat", "-A A -m set --match-set x dst -j RETURN", &app());
    assert_eq!(alone, (Direct, 0));
}

#[test]
fn a_packet_without_owner_matches_no_owner() {
    let ownerless = Packet {
        owner: None,
        ..app()
    };
    for (rule, of_app, of_ownerless) in [
        ("--uid-owner 1000", true, false),
        ("! --uid-owner 1000", false, true),
        ("--uid-owner 900-1100", true, false),
        ("! --uid-owner 1", true, true),
        ("! --uid-owner 1 --gid-owner 1000", true, false),
        ("! --gid-owner 1 ! --gid-owner 1000", false, true),
    ] {
        let rule = format!("-A OUTPUT -m owner {rule} -j DROP");
        for (packet, expected) in [(app(), of_app), (ownerless.clone(), of_ownerless)] {
            let dropped = of("mangle", &rule, &packet).0 == Verdict::Drop;
            assert_eq!(dropped, expected, "{rule}: {:?}", packet.owner);
        }
    }
}

#[test]
fn marks_are_followed_over_lo() {
    let rules = "-A OUTPUT -o lo -p tcp -m owner --uid-owner 1000 -j MARK --set-xmark 0x53a/0xffffffff\n\
                 -A PREROUTING -i lo -p tcp -m mark ! --mark 0x53a -j RETURN\n\
                 -A PREROUTING -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                 -A PREROUTING -p tcp -j TPROXY --on-port 15006 --on-ip 0.0.0.0 --tproxy-mark 0x539/0xffffffff";
    let to_self = Packet {
        via: Via::Loopback,
        ..app()
    };
    assert_eq!(of("mangle", rules, &to_self), (Verdict::Tproxy(15006), 6));
    let another = Packet {
        owner: None,
        ..to_self.clone()
    };
    assert_eq!(of("mangle", rules, &another), (Verdict::Direct, 0));
    assert_eq!(of("mangle", rules, &app()), (Verdict::Direct, 0));
    // An unknown mark makes the rules that test it unknown.
    let unknown =
        format!("-A OUTPUT -m set --match-set x dst -j MARK --set-xmark 0x1/0x1\n{rules}");
    assert_eq!(of("mangle", &unknown, &to_self).0, Verdict::Tproxy(15006));
    let kept = unknown.replace("--uid-owner 1000", "--uid-owner 1001");
    assert_eq!(of("mangle", &kept, &to_self), (Verdict::Unknown, 5));
}

#[test]
fn a_redirected_connection_meets_the_filter_of_its_new_destination() {
    let text = "*nat\n-A OUTPUT -p tcp -j REDIRECT --to-ports 15001\nCOMMIT\n\
                *filter\n-A OUTPUT -d 127.0.0.1/32 -p tcp -m tcp --dport 15001 -j DROP\nCOMMIT\n";
    let rules = parse(Family::V4, text).expect("rules");
    let answer = outbound(&rules, &app());
    assert_eq!(
        (answer.verdict, answer.decided_by.line()),
        (Verdict::Drop, 5)
    );
}
