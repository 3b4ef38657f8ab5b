//! Pods and namespaces that a command cannot use.

use super::refusal::Row;

const ABSENT: &[&str] = &["is not attached", "redirectctl attach"];
/// An ordinary file.
pub(super) const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

pub(super) const ROWS: &[Row<'_>] = &[
    (
        &["attach", "--cgroup", "POD"],
        &["it is attached already", "redirectctl update"],
    ),
    (
        &["attach", "--cgroup", "FREE", "--netns", "/no/such"],
        &[
            "open network namespace \"/no/such\" (name a file of /run/netns, or /proc/PID/ns/net): No such file",
        ],
    ),
    (
        &["attach", "--cgroup", "FREE", "--netns", FILE],
        &["Cargo.toml", "not a network namespace"],
    ),
    (
        &["attach", "--cgroup", "FREE", "--netns", "/proc/self/ns/pid"],
        &["/proc/self/ns/pid", "not a network namespace"],
    ),
    (
        &["update", "--cgroup", "POD", "--netns", "/no/such"],
        &["open network namespace \"/no/such\""],
    ),
    (&["update", "--cgroup", "FREE"], ABSENT),
    (&["detach", "--cgroup", "FREE"], ABSENT),
    (&["follow", "--cgroup", "FREE"], ABSENT),
    (
        &["follow", "--cgroup", "POD", "--netns", "/no/such"],
        &["open network namespace \"/no/such\""],
    ),
    (&["show", "--cgroup", "FREE"], ABSENT),
    (&["show", "--cgroup", "id:4294967295"], ABSENT),
    (
        &["attach", "--cgroup", "id:4294967295"],
        &["find cgroup id:4294967295", "gone, or not visible here"],
    ),
    (
        &["show", "--cgroup", "id:x"],
        &["find cgroup \"id:x\"", "such as id:4711"],
    ),
    (
        &[
            "explain",
            "--cgroup",
            "FREE",
            "--uid",
            "1",
            "--dst",
            "1.1.1.1:1",
        ],
        ABSENT,
    ),
    (&["cidr", "list", "--cgroup", "FREE"], ABSENT),
    (&["cidr", "add", "--cgroup", "FREE", "10.0.0.0/8"], ABSENT),
    (
        &["cidr", "del", "--cgroup", "POD", "10.0.0.0/8", "11.0.0.0/8"],
        &["not in the list: 11.0.0.0/8"],
    ),
    (
        &[
            "cidr",
            "add",
            "--cgroup",
            "POD",
            "--list",
            "include",
            "11.0.0.0/8",
        ],
        &["they are '*'", "redirectctl update -i"],
    ),
];
