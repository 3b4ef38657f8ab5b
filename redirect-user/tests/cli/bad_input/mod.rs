//! What cannot be done is refused: one message that says what, where and what to do, the documented
//! status, and nothing changed.

use redirect_testkit::unified_mount;

use crate::{
    Case,
    Needs::Pods,
    Tested,
    ctl::{Ctl, Ran, TempFile},
    scene::Scene,
};

pub(crate) const CASES: &[Case] = &[
    ("bad_command_lines_are_usage_errors", Pods, bad_command_lines_are_usage_errors),
    ("bad_values_are_named", Pods, bad_values_are_named),
    ("bad_variables_are_named", Pods, bad_variables_are_named),
    ("bad_pods_are_named", Pods, bad_pods_are_named),
    ("bad_files_are_named_with_their_line", Pods, bad_files_are_named_with_their_line),
];

/// A command line, and what standard error must contain. `POD` stands for an attached cgroup,
/// `FREE` for one that is not.
type Row<'a> = (&'a [&'a str], &'a [&'a str]);

/// One attached pod, and a second cgroup that is not.
struct Bench {
    scene: Scene,
    free: redirect_testkit::Cgroup,
}

impl Bench {
    fn new(name: &str) -> anyhow::Result<Self> {
        let scene = Scene::new(name)?;
        scene.ok(&["attach", "-i", "*", "-x", "10.0.0.0/8"]);
        let free = scene.pod.second_cgroup("free")?;
        Ok(Self { scene, free })
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let free = self.free.path().to_str().unwrap();
        let fill = |word: &&'a str| match *word {
            "POD" => self.scene.cgroup(),
            "FREE" => free,
            other => other,
        };
        args.iter().map(fill).collect()
    }

    fn refuses(&self, rows: &[Row<'_>], status: i32) {
        for (args, expected) in rows {
            self.refuses_one(&[], args, expected, status);
        }
    }

    fn refuses_one(&self, variables: &[(&str, &str)], args: &[&str], expected: &[&str], status: i32) {
        let ctl = &self.scene.ctl;
        let before = state(ctl);
        let ran = ctl.run_with(&self.args(args), variables);
        assert_refused(&ran, status, expected);
        assert_eq!(state(ctl), before, "{} changed something", ran.line);
    }
}

fn state(ctl: &Ctl) -> (String, Vec<String>) {
    (ctl.ok(&["list", "--output", "json"]), ctl.tree())
}

/// One message with these parts, and nothing that only a developer wants to see.
#[track_caller]
pub(crate) fn assert_refused(ran: &Ran, status: i32, expected: &[&str]) {
    assert_eq!(ran.status, Some(status), "{ran:?}");
    assert_eq!(ran.stderr.matches("error:").count(), 1, "{ran:?}");
    assert!(ran.stderr.starts_with("error: ") && ran.stdout.is_empty(), "{ran:?}");
    for part in expected {
        assert!(ran.stderr.contains(part), "no {part:?}: {ran:?}");
    }
    for noise in ["panicked", "backtrace", "Caused by", "Some(", "Err("] {
        assert!(!ran.stderr.contains(noise), "{ran:?}");
    }
}

fn bad_command_lines_are_usage_errors() -> Tested {
    let bench = Bench::new("usage")?;
    let explain = ["explain", "--cgroup", "POD", "--uid"];
    let explain = |rest: &[&'static str]| [&explain[..], rest].concat();
    bench.refuses(
        &[
            (&[], &["requires a subcommand"]),
            (&["frobnicate"], &["unrecognized subcommand 'frobnicate'"]),
            (&["detatch"], &["'detatch'", "'detach'", "--help"]),
            (&["attach", "--cgroup", ""], &["a value is required for '--cgroup <PATH>'"]),
            (&["attach"], &["--cgroup <PATH>", "Usage: redirectctl attach"]),
            (&["attach", "--cgroup", "FREE", "--frobnicate"], &["unexpected argument '--frobnicate'"]),
            (&["attach", "--cgroup", "FREE", "--dry-run=maybe"], &["'maybe'", "--dry-run", "write true or false"]),
            (&["attach", "--cgroup", "FREE", "--netns", "pid:x"], &["--netns", "\"x\" is not a process id"]),
            (&["attach", "--cgroup", "FREE", "--netns", ""], &["--netns"]),
            (&["list", "--output", "xml"], &["'xml'", "--output", "table, json"]),
            (&["cidr", "frob"], &["unrecognized subcommand 'frob'"]),
            (&["cidr", "add", "--cgroup", "POD"], &["<CIDR>"]),
            (&["cidr", "add", "--cgroup", "POD", "--file", "x", "10.0.0.0/8"], &["cannot be used with"]),
            (&["cidr", "list", "--cgroup", "POD", "--list", "both"], &["'both'", "exclude, include"]),
            (&explain(&["1000", "--dst", "36.152.44.96"]), &["'36.152.44.96'", "--dst <ADDR:PORT>"]),
            (&explain(&["1000", "--dst", "example.com:80"]), &["'example.com:80'", "--dst <ADDR:PORT>"]),
            (&explain(&["1000", "--dst", "fd00::1:80x"]), &["--dst <ADDR:PORT>"]),
            (&explain(&["root", "--dst", "36.152.44.96:80"]), &["'root'", "--uid <UID>"]),
            (&explain(&["0", "--dst", "1.1.1.1:80", "--src", "x"]), &["'x'", "--src <ADDR>"]),
            (&["proxy", "--listen", "70000"], &["'70000'", "--listen <PORT>", "0..=65535"]),
            (&["proxy", "--mode", "some"], &["'some'", "allow-any, registry-only"]),
            (&["completions", "tcsh"], &["'tcsh'", "bash", "zsh", "fish"]),
            (&["exec"], &["<COMMAND>"]),
        ],
        2,
    );
    Ok(())
}

fn bad_values_are_named() -> Tested {
    let bench = Bench::new("values")?;
    for (flags, expected) in [
        (&["-i", "10.0.0.0"] as &[&str], &["-i/--istio-service-cidr", "\"10.0.0.0\" has no prefix length: write 10.0.0.0/32"] as &[&str]),
        (&["-i", "10.0.0.0/8, 11.0.0.0/8"], &["\" 11.0.0.0/8\" contains a blank: remove it"]),
        (&["-x", "10.0.0.0/33"], &["-x/--istio-service-exclude-cidr", "\"10.0.0.0/33\"", "from 0 to 32"]),
        (&["-x", "fd00::/129"], &["\"fd00::/129\"", "from 0 to 128"]),
        (&["-x", "example.com/8"], &["\"example.com/8\" is not an address range: write ADDRESS/LENGTH"]),
        (&["-x", "*"], &["never will be", "leave -i empty"]),
        (&["-i", "*,10.0.0.0/8"], &["\"*\" is a wildcard only as the whole value"]),
        (&["-o", "70000"], &["-o/--istio-local-outbound-ports-exclude", "\"70000\" is above 65535"]),
        (&["-q", "80,*"], &["-q/--istio-outbound-ports \"80,*\"", "\"*\" is a wildcard"]),
        (&["-q", "http"], &["\"http\" is a service name: write the port's number"]),
        (&["-o", "9000:8000"], &["swap the two ports"]),
        (&["-q", "080"], &["starts with a zero"]),
        (&["-p", "0"], &["-p/--envoy-port", "from 1 to 65535"]),
        (&["-p", "80:90"], &["\"80:90\" is not a port to listen on"]),
        (&["-e", "x"], &["-e/--inbound-tunnel-port", "\"x\""]),
        (&["-u", "1337,1338"], &["-u/--proxy-uid \"1337,1338\"", "not supported yet", "give one uid"]),
        (&["-g", "1,2"], &["-g/--proxy-gid \"1,2\"", "not supported yet", "give one gid"]),
        (&["-u", "envoy"], &["\"envoy\" is not a numeric id"]),
        (&["-m", "TPROXY"], &["-m/--istio-inbound-interception-mode \"TPROXY\"", "not supported yet", "use REDIRECT"]),
        (&["-c", "eth1"], &["-c/--istio-exclude-interfaces", "not supported yet", "with -x"]),
        (&["-k", "br0"], &["-k/--kube-virt-interfaces", "keep iptables for such pods"]),
        (&["-n"], &["-n/--dry-run", "redirectctl explain"]),
        (&["--redirect-dns"], &["--redirect-dns", "not supported yet", "leave it out"]),
        (&["--capture-all-dns"], &["--capture-all-dns"]),
        (&["--drop-invalid"], &["--drop-invalid", "never will be", "leave it out"]),
        (&["--cleanup-only"], &["--cleanup-only", "redirectctl detach"]),
        (&["--run-validation"], &["--run-validation", "redirectctl status"]),
        (&["--skip-rule-apply"], &["--skip-rule-apply"]),
        (&["-x", "10.0.0.0,x/1", "-m", "TPROXY"], &["3 values cannot be used", "\"10.0.0.0\"", "\"x/1\"", "TPROXY"]),
    ] {
        bench.refuses_one(&[], &[&["attach", "--cgroup", "FREE"], flags].concat(), expected, 1);
        bench.refuses_one(&[], &[&["update", "--cgroup", "POD"], flags].concat(), expected, 1);
    }
    Ok(())
}

fn bad_variables_are_named() -> Tested {
    let bench = Bench::new("variables")?;
    for (variable, value, expected) in [
        ("ISTIO_SERVICE_CIDR", "10.0.0.0", "\"10.0.0.0\" has no prefix length"),
        ("ISTIO_SERVICE_EXCLUDE_CIDR", "*", "never will be"),
        ("PROXY_UID", "envoy", "is not a numeric id"),
        ("INBOUND_CAPTURE_PORT", "70000", "is above 65535"),
        ("ISTIO_OUTBOUND_PORTS", "http", "is a service name"),
        ("ISTIO_INBOUND_INTERCEPTION_MODE", "TPROXY", "use REDIRECT"),
        ("ISTIO_META_DNS_CAPTURE", "true", "DNS is not captured"),
        ("INVALID_DROP", "1", "leave it out"),
        ("ISTIO_OUTBOUND_OWNER_GROUPS", "app", "unset it"),
        ("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "app", "unset it"),
        ("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", "127.0.0.0/8", "unset it"),
    ] {
        let named = format!("{variable} (environment)");
        let parts = [named.as_str(), expected];
        bench.refuses_one(&[(variable, value)], &["attach", "--cgroup", "FREE"], &parts, 1);
    }
    Ok(())
}

fn bad_pods_are_named() -> Tested {
    let bench = Bench::new("bad")?;
    let mount = unified_mount()?;
    let root = mount.to_str().unwrap();
    let procs = bench.free.path().join("cgroup.procs");
    let procs = procs.to_str().unwrap();
    let below = format!("give a folder below \"{root}\"");
    let gone = format!("pid:{}", gone_pid());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for (cgroup, expected) in [
        ("/no/such", &["open cgroup \"/no/such\": No such file or directory"] as &[&str]),
        (file, &["Cargo.toml\": not a cgroup of version 2", &below]),
        ("/proc", &["open cgroup \"/proc\": not a cgroup of version 2", &below]),
        (procs, &["cgroup.procs\": not a cgroup of version 2", &below]),
        (root, &["it is the root cgroup", "give the pod's own"]),
    ] {
        for command in ["attach", "update", "detach", "show"] {
            bench.refuses_one(&[], &[command, "--cgroup", cgroup], expected, 1);
        }
    }
    let explain = ["--uid", "1", "--dst", "1.1.1.1:1"];
    let absent = ["is not attached", "redirectctl attach"];
    let explain = [&["explain", "--cgroup", "FREE"], &explain[..]].concat();
    bench.refuses(
        &[
            (&["attach", "--cgroup", "POD"], &["is already attached", "redirectctl update"]),
            (&["attach", "--cgroup", "FREE", "--netns", "/no/such"], &["open network namespace \"/no/such\": No such file"]),
            (&["attach", "--cgroup", "FREE", "--netns", file], &["Cargo.toml", "not a network namespace"]),
            (&["attach", "--cgroup", "FREE", "--netns", "/proc/self/ns/pid"], &["/proc/self/ns/pid", "not a network namespace"]),
            (&["attach", "--cgroup", "FREE", "--netns", &gone], &["open network namespace", "No such file"]),
            (&["update", "--cgroup", "POD", "--netns", "/no/such"], &["open network namespace \"/no/such\""]),
            (&["update", "--cgroup", "FREE"], &absent),
            (&["detach", "--cgroup", "FREE"], &absent),
            (&["show", "--cgroup", "FREE"], &absent),
            (&explain, &absent),
            (&["cidr", "list", "--cgroup", "FREE"], &absent),
            (&["cidr", "add", "--cgroup", "FREE", "10.0.0.0/8"], &absent),
            (&["cidr", "add", "--cgroup", "POD", "10.0.0.0"], &["\"10.0.0.0\" has no prefix length: write 10.0.0.0/32"]),
            (&["cidr", "add", "--cgroup", "POD", "11.0.0.0/8,*"], &["\"*\" is a wildcard"]),
            (&["cidr", "del", "--cgroup", "POD", "10.0.0.0/8", "11.0.0.0/8"], &["not in the list: 11.0.0.0/8"]),
            (&["cidr", "add", "--cgroup", "POD", "--list", "include", "11.0.0.0/8"], &["they are '*'", "redirectctl update -i"]),
        ],
        1,
    );
    Ok(())
}

fn bad_files_are_named_with_their_line() -> Tested {
    let bench = Bench::new("files")?;
    let ranges = TempFile::new("ranges", "# ours\n10.0.0.0/8\n\n10.0.0.0/99 # typo\n");
    let binary = TempFile::new("binary", b"10.0.0.0/8\n\xff\xfe\n");
    let registry = TempFile::new("registry", "10.0.0.1:80\n10.0.0.1:http\n");
    let proxy = ["proxy", "--mode", "registry-only", "--registry"];
    bench.refuses(
        &[
            (&["cidr", "replace", "--cgroup", "POD", "--file", "/no/such"], &["read \"/no/such\": No such file"]),
            (&["cidr", "replace", "--cgroup", "POD", "--file", ranges.path()], &[ranges.path(), "line 4: \"10.0.0.0/99\"", "0 to 32"]),
            (&["cidr", "replace", "--cgroup", "POD", "--file", binary.path()], &[binary.path(), "UTF-8"]),
            (&["cidr", "replace", "--cgroup", "POD", "--file", "/proc"], &["read \"/proc\": Is a directory"]),
            (&[&proxy[..], &["/no/such"]].concat(), &["read registry \"/no/such\": No such file"]),
            (&[&proxy[..], &[registry.path()]].concat(), &[registry.path(), "line 2: \"10.0.0.1:http\"", "write ADDRESS"]),
        ],
        1,
    );
    Ok(())
}

/// A process id that nobody has.
fn gone_pid() -> u32 {
    let max = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    max.trim().parse::<u32>().unwrap() + 1
}
