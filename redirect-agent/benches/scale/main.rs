//! The cost of the agents of a large cluster, for its API server and for each node.
//!
//! The sources, the agent and the kernel are real; the API server is the fake one, and its pods are as large
//! as Istio's webhook makes them. Figures of one node, or of many sources in one process, are multiplied:
//! nodes share nothing but the API server.
//!
//! `cargo bench` measures; `cargo test` runs everything once, with small numbers.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its results, and its progress beside them"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "a key that JSON does not have is made when it is written"
)]

mod counting_proxy;
mod node;
mod pod;
mod source;

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail, ensure};
use clap::Parser;
use redirect_testkit::{
    helper, missing, missing_or_fail,
    runner::{self, trial},
};

/// Measure the cost of agents, as root, and print a table.
#[derive(Debug, Parser)]
struct Args {
    /// Pods of a node
    #[arg(long, default_value_t = 110)]
    pods: u32,
    /// Changes of a pod, whose mean is taken
    #[arg(long, default_value_t = 50)]
    changes: u32,
    /// Nodes that lose their API server together
    #[arg(long, default_value_t = 500)]
    nodes: u32,
    /// Duration of that outage, in seconds
    #[arg(long, default_value_t = 60)]
    outage: u64,
    /// Nodes of the cluster in the table
    #[arg(long, default_value_t = 5000)]
    cluster: u32,
    /// Seconds for which an idle node is observed
    #[arg(long, default_value_t = 10, hide = true)]
    idle: u32,
    /// Option that cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    helper::intercept();
    runner::bench_or_test(|words| bench(&Args::parse_from(words)), test)
}

/// One test: everything once, with small numbers.
fn test() -> ExitCode {
    let small = Args {
        pods: 3,
        changes: 3,
        nodes: 5,
        outage: 0,
        idle: 1,
        cluster: 5000,
        bench: false,
    };
    let reason = missing_or_fail(&["setpriv"]);
    let trial = |reason: Option<String>| trial("scale", reason.as_ref(), move || bench(&small));
    runner::run(reason.map(|reason| vec![trial(reason)]))
}

fn bench(args: &Args) -> Result<()> {
    if let Some(reason) = missing(&["setpriv"]) {
        bail!("measure agents: {reason}");
    }
    let sizes = pod::sizes();
    ensure!(sizes[2] > 1000, "the pod is no JSON");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    eprintln!("a source of {} pods", args.pods);
    let one = runtime.block_on(source::one(args.pods, args.changes))?;
    eprintln!(
        "{} sources whose server is away for {} s",
        args.nodes, args.outage
    );
    let storm = source::storm(&runtime, args.nodes, Duration::from_secs(args.outage))?;
    eprintln!("an agent with {} pods", args.pods);
    let node = node::measure(args.pods, args.changes, args.idle)?;
    let rows = [
        row("a pod, as JSON", size(to_u64(sizes[0])), ""),
        row("– without `managedFields`", size(to_u64(sizes[1])), ""),
        row("– its metadata without these", size(to_u64(sizes[2])), ""),
        row(
            "a list of a node's pods",
            size(one.list.0),
            &all(one.list.0, args.cluster),
        ),
        row("– to read it", ms(one.list.1), ""),
        row("a changed pod, by watch", size(one.change.0), ""),
        row("– to read it and decide", ms(one.change.1), ""),
        row("an Event", size(node.event), ""),
        row(
            &format!("lists after an outage of {} s", args.outage),
            format!("{:.2}", storm.lists),
            &format!("{:.0}", storm.lists * f64::from(args.cluster)),
        ),
        row(
            "connections in the fullest second after it",
            format!("{:.2}", storm.peak),
            &format!("{:.0}", storm.peak * f64::from(args.cluster)),
        ),
        row(
            "until every node is served again",
            format!("{:.1} s", storm.over.as_secs_f64()),
            "",
        ),
        row("processor's time to attach a pod", ms(node.attach), ""),
        row("– to change one of all", ms(node.change), ""),
        row("– in a second without changes", ms(node.idle), ""),
        row("the agent's resident memory", size(node.resident), ""),
        row("maps, with one pod", size(node.maps[0]), ""),
        row("– with all", size(node.maps[1]), ""),
    ];
    println!(
        "| what | a node of {} pods | {} nodes |\n| --- | ---: | ---: |",
        args.pods, args.cluster
    );
    for row in rows {
        println!("{row}");
    }
    Ok(())
}

fn row(what: &str, node: impl AsRef<str>, cluster: &str) -> String {
    format!("| {what} | {} | {cluster} |", node.as_ref())
}

fn to_u64(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// A size with one decimal: a single measurement has no more.
fn size(bytes: u64) -> String {
    let (unit, name) = if bytes < 1_000_000 {
        (1000, "kB")
    } else {
        (1_000_000, "MB")
    };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// Size for all nodes, in megabytes.
fn all(bytes: u64, nodes: u32) -> String {
    format!("{} MB", bytes * u64::from(nodes) / 1_000_000)
}
