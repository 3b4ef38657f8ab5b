//! Texts of rules that no configuration renders.

use redirect_iptables::rules::Family;

/// Rules that Istio does not write, and some that it writes; both families have the same.
pub(super) const FOREIGN: [&str; 6] = [
    // Istio writes these with DNS capture.
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
pub(super) fn foreign(text: &str, family: Family) -> String {
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
