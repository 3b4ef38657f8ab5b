//! Values that an option refuses, by flag and by variable.

use super::refusal::Row;

/// The flags of `attach` and `update`.
pub(super) const FLAGS: &[Row<'_>] = &[
    (
        &["-i", "10.0.0.0"],
        &[
            "-i/--istio-service-cidr",
            "\"10.0.0.0\" has no prefix length: write 10.0.0.0/32",
        ],
    ),
    (
        &["-i", "10.0.0.0/8, 11.0.0.0/8"],
        &["\" 11.0.0.0/8\" contains a blank: remove it"],
    ),
    (
        &["-x", "10.0.0.0/33"],
        &[
            "-x/--istio-service-exclude-cidr",
            "\"10.0.0.0/33\"",
            "from 0 to 32",
        ],
    ),
    (&["-x", "fd00::/129"], &["\"fd00::/129\"", "from 0 to 128"]),
    (
        &["-x", "example.com/8"],
        &["\"example.com/8\" is not an address range: write ADDRESS/LENGTH"],
    ),
    (&["-x", "*"], &["never will be", "leave -i empty"]),
    (
        &["-i", "*,10.0.0.0/8"],
        &["\"*\" is a wildcard only as the whole value"],
    ),
    (
        &["-o", "70000"],
        &[
            "-o/--istio-local-outbound-ports-exclude",
            "\"70000\" is above 65535",
        ],
    ),
    (
        &["-q", "80,*"],
        &["-q/--istio-outbound-ports \"80,*\"", "\"*\" is a wildcard"],
    ),
    (
        &["-q", "http"],
        &["\"http\" is a service name: write the port's number"],
    ),
    (&["-o", "9000:8000"], &["swap the two ports"]),
    (&["-q", "080"], &["starts with a zero"]),
    (&["-p", "0"], &["-p/--envoy-port", "from 1 to 65535"]),
    (&["-p", "80:90"], &["\"80:90\" is not a port to listen on"]),
    (&["-e", "x"], &["-e/--inbound-tunnel-port", "\"x\""]),
    (
        &["-u", "1,2,3,4,5"],
        &[
            "-u/--proxy-uid \"1,2,3,4,5\"",
            "not supported yet",
            "give no more than four uids",
        ],
    ),
    (
        &["-g", "1,1,1,1,1"],
        &[
            "-g/--proxy-gid \"1,1,1,1,1\"",
            "not supported yet",
            "give no more than four gids",
        ],
    ),
    (&["-u", "envoy"], &["\"envoy\" is not a numeric id"]),
    (
        &["-c", "a,b,c,d,e,f,g,h,i"],
        &[
            "-c/--istio-exclude-interfaces",
            "not supported yet",
            "no more than eight names",
        ],
    ),
    (
        &["-k", "br0"],
        &["-k/--kube-virt-interfaces", "keep iptables for such pods"],
    ),
    (
        &["-n"],
        &["-n/--dry-run", "redirectctl rules --format iptables"],
    ),
    (
        &["--redirect-dns", "--dns-servers", "10.96.0.10,dns.local"],
        &["--dns-servers", "\"dns.local\" is not an IP address"],
    ),
    (
        &["--drop-invalid"],
        &["--drop-invalid", "never will be", "leave it out"],
    ),
    (
        &["--cleanup-only"],
        &["--cleanup-only", "redirectctl detach"],
    ),
    (
        &["--run-validation"],
        &["--run-validation", "redirectctl status"],
    ),
    (&["--skip-rule-apply"], &["--skip-rule-apply"]),
    (
        &["-x", "10.0.0.0,x/1", "-k", "br0"],
        &[
            "3 values cannot be used",
            "\"10.0.0.0\"",
            "\"x/1\"",
            "\"br0\"",
        ],
    ),
];

/// A variable of `attach`, its value, and a part of the message.
pub(super) const VARIABLES: &[(&str, &str, &str)] = &[
    (
        "ISTIO_SERVICE_CIDR",
        "10.0.0.0",
        "\"10.0.0.0\" has no prefix length",
    ),
    ("ISTIO_SERVICE_EXCLUDE_CIDR", "*", "never will be"),
    ("PROXY_UID", "envoy", "is not a numeric id"),
    ("INBOUND_CAPTURE_PORT", "70000", "is above 65535"),
    ("ISTIO_OUTBOUND_PORTS", "http", "is a service name"),
    ("INVALID_DROP", "1", "leave it out"),
    (
        "ISTIO_OUTBOUND_OWNER_GROUPS",
        "no-such-group",
        "is neither a group of this system nor",
    ),
    (
        "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE",
        "*",
        "\"*\" is neither a group",
    ),
    (
        "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR",
        "10.0.0.0/8",
        "is not an IPv4 loopback range",
    ),
];
