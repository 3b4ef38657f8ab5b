//! Wrong command lines.

use super::refusal::Row;

pub(super) const ROWS: &[Row<'_>] = &[
    (&[], &["requires a subcommand"]),
    (&["frobnicate"], &["unrecognized subcommand 'frobnicate'"]),
    (&["detatch"], &["'detatch'", "'detach'", "--help"]),
    (
        &["attach", "--cgroup", ""],
        &["a value is required for '--cgroup <PATH>'"],
    ),
    (
        &["attach"],
        &["--cgroup <PATH>", "Usage: redirectctl attach"],
    ),
    (
        &["attach", "--cgroup", "FREE", "--frobnicate"],
        &["unexpected argument '--frobnicate'"],
    ),
    (
        &["attach", "--cgroup", "FREE", "--dry-run=maybe"],
        &["'maybe'", "--dry-run", "write true or false"],
    ),
    (
        &["attach", "--cgroup", "FREE", "--netns", "pid:x"],
        &["--netns", "\"x\" is not a process id"],
    ),
    (&["attach", "--cgroup", "FREE", "--netns", ""], &["--netns"]),
    (
        &["attach", "--cgroup", "FREE", "--netns", "1234"],
        &["--netns", "write pid:1234 for a process"],
    ),
    (
        &["attach", "--cgroup", "FREE", "-u", "-5"],
        &["-u/--proxy-uid \"-5\"", "\"-5\" is not a numeric id"],
    ),
    (
        &["attach", "--cgroup", "FREE", "-i", "fe80::1%eth0/64"],
        &["\"fe80::1%eth0/64\" has a zone", "fe80::/64"],
    ),
    (
        &["attach", "--cgroup", "FREE", "--shadow=maybe"],
        &["'maybe'", "--shadow", "write true or false"],
    ),
    (
        &["cidr", "add", "--cgroup", "POD", "10.0.0.0"],
        &["\"10.0.0.0\" has no prefix length: write 10.0.0.0/32"],
    ),
    (
        &["cidr", "add", "--cgroup", "POD", "11.0.0.0/8,*"],
        &["\"*\" is a wildcard"],
    ),
    (
        &["list", "--output", "xml"],
        &["'xml'", "--output", "table, json"],
    ),
    (&["cidr", "frob"], &["unrecognized subcommand 'frob'"]),
    (&["cidr", "add", "--cgroup", "POD"], &["<CIDR>"]),
    (
        &[
            "cidr",
            "add",
            "--cgroup",
            "POD",
            "--file",
            "x",
            "10.0.0.0/8",
        ],
        &["cannot be used with"],
    ),
    (
        &["cidr", "list", "--cgroup", "POD", "--list", "both"],
        &["'both'", "exclude, include"],
    ),
    (
        &[
            "explain",
            "--cgroup",
            "POD",
            "--uid",
            "1000",
            "--dst",
            "36.152.44.96",
        ],
        &["'36.152.44.96'", "--dst <ADDR:PORT>"],
    ),
    (
        &[
            "explain",
            "--cgroup",
            "POD",
            "--uid",
            "1000",
            "--dst",
            "example.com:80",
        ],
        &[
            "'example.com:80'",
            "--dst <ADDR:PORT>",
            "36.152.44.96:80",
            "names are not looked up",
        ],
    ),
    (
        &[
            "explain",
            "--cgroup",
            "POD",
            "--uid",
            "1000",
            "--dst",
            "fd00::1:80x",
        ],
        &["--dst <ADDR:PORT>"],
    ),
    (
        &[
            "explain",
            "--cgroup",
            "POD",
            "--uid",
            "root",
            "--dst",
            "36.152.44.96:80",
        ],
        &["'root'", "--uid <UID>"],
    ),
    (
        &[
            "explain",
            "--cgroup",
            "POD",
            "--uid",
            "0",
            "--dst",
            "1.1.1.1:80",
            "--src",
            "x",
        ],
        &["'x'", "--src <ADDR>"],
    ),
    (
        &["proxy", "--listen", "70000"],
        &["'70000'", "--listen <PORT>", "0..=65535"],
    ),
    (
        &["proxy", "--mode", "some"],
        &["'some'", "allow-any, registry-only"],
    ),
    (&["completions", "tcsh"], &["'tcsh'", "bash", "zsh", "fish"]),
    (&["exec"], &["<COMMAND>"]),
];
