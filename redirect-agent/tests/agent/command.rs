//! The commands that end by themselves.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, ensure};
use redirect_testkit::{SocketLb, cases};
use redirect_user::bpf::Pins;
use serde_json::Value;

use crate::{
    Cases, Needs, Tested,
    agent_process::documented,
    node::Node,
    scene::{NEW, OLD, Scene},
};

pub(crate) const CASES: &[Cases] = cases! {
    Needs::Pods => [
        plan_predicts_what_once_does,
        cleanup_works_after_a_kill_and_without_a_folder,
        every_metric_is_documented,
        a_failed_step_is_named_and_retried,
    ],
};

fn plan_predicts_what_once_does() -> Tested {
    let (node, shop, cart) = (
        Node::new("plan"),
        Scene::new("plan")?,
        Scene::new("plan-cart")?,
    );
    let ran = node.run(&["plan"]);
    ensure!(
        ran.stdout == "nothing is described, and nothing is attached\n",
        "{ran:?}"
    );
    node.describe("shop", &shop.description(OLD, ""));
    node.describe("cart", &cart.description(OLD, ""));
    let plan = |expected: &[_], status| check_plan(&node, expected, status);
    let once = |status| -> Tested {
        let ran = node.run(&["run", "--once"]);
        ensure!(ran.status == Some(status), "{ran:?}");
        Ok(())
    };
    plan(
        &[("file/shop.yaml", "attach"), ("file/cart.yaml", "attach")],
        0,
    )?;
    ensure!(
        shop.reached()? == "world" && node.leftovers().is_empty(),
        "a plan changes nothing"
    );
    once(0)?;
    ensure!(shop.reached()? == "old" && cart.reached()? == "old");
    plan(&[("file/shop.yaml", "keep"), ("file/cart.yaml", "keep")], 0)?;
    node.forget("cart");
    node.describe("shop", &shop.description(NEW, ""));
    node.describe("later", "unit: redirect-test-that-is-never-there.service\n");
    node.describe("wrong", "cgroup: /sys\nargs: [-i, '*']\n");
    plan(
        &[
            ("", "detach"),
            ("file/shop.yaml", "update"),
            ("file/later.yaml", "wait"),
            ("file/wrong.yaml", "refuse"),
        ],
        3,
    )?;
    ensure!(
        cart.reached()? == "old" && shop.reached()? == "old",
        "a plan changes nothing"
    );
    once(3)?;
    ensure!(cart.reached()? == "world" && shop.reached()? == "new");
    Ok(())
}

/// Checks the output of `plan` as JSON, the number of lines in the table, and the exit status.
fn check_plan(node: &Node, expected: &[(&str, &str)], status: i32) -> Tested {
    let ran = node.run(&["plan", "--output", "json"]);
    ensure!(ran.status == Some(status), "{ran:?}");
    let rows: Vec<Value> = serde_json::from_str(&ran.stdout)?;
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let found: BTreeSet<_> = rows
        .iter()
        .map(|row| (text(row, "workload"), text(row, "action")))
        .collect();
    let expected = expected
        .iter()
        .map(|(id, action)| ((*id).to_owned(), (*action).to_owned()));
    ensure!(found == expected.collect(), "{ran:?}");
    let table = node.run(&["plan"]).stdout;
    let is_table = table.starts_with("WORKLOAD") && table.lines().count() == rows.len() + 1;
    ensure!(is_table, "{table}");
    Ok(())
}

fn cleanup_works_after_a_kill_and_without_a_folder() -> Tested {
    let (node, shop) = (Node::new("clean"), Scene::new("clean")?);
    node.describe("shop", &shop.description(OLD, ""));
    drop(node.start());
    ensure!(shop.reached()? == "old");
    fs::remove_dir_all(node.folder())?;
    let ran = node.run(&["run", "--once"]);
    ensure!(
        ran.status == Some(1) && ran.stderr.contains("source file: list \""),
        "{ran:?}"
    );
    ensure!(shop.reached()? == "old");
    let ran = node.run(&["cleanup", "--output", "json"]);
    ensure!(ran.status == Some(0), "{ran:?}");
    let removed: Value = serde_json::from_str(&ran.stdout).context("JSON")?;
    ensure!(removed["cgroups"] == 1, "{ran:?}");
    ensure!(shop.reached()? == "world" && node.leftovers().is_empty());
    ensure!(node.run(&["cleanup"]).status == Some(0), "repeated");
    ensure!(node.leftovers().is_empty());
    Ok(())
}

fn a_failed_step_is_named_and_retried() -> Tested {
    let (node, shop, cart) = (
        Node::new("again"),
        Scene::new("again")?,
        Scene::new("again-cart")?,
    );
    // Two inbound policies for one network namespace: the second is impossible.
    let in_shops = |scene: &Scene| {
        let netns = shop.pod.namespace();
        format!(
            "{}netns: {}\n",
            scene.description(OLD, ", -b, '*'"),
            netns.display()
        )
    };
    node.describe("cart", &in_shops(&cart));
    node.describe("shop", &in_shops(&shop));
    let agent = node.start();
    agent.until("named", || {
        agent.log().contains("go to the proxy of cgroup")
    });
    agent.until("retried", || {
        agent.metric("redirect_agent_actions_total", &["attach", "error"]) >= 2
    });
    ensure!(agent.metric("redirect_agent_workloads", &["state=\"failed\""]) == 1);
    node.forget("cart");
    agent.until("the retry succeeds", || shop.reaches("old"));
    agent.until("counted", || {
        agent.metric("redirect_agent_workloads", &["failed"]) == 0
    });
    Ok(())
}

fn every_metric_is_documented() -> Tested {
    let (node, shop) = (Node::new("metrics"), Scene::new("metrics")?);
    node.describe("shop", &shop.description(OLD, ""));
    node.describe("bad", "cgroup: [");
    let agent = node.start();
    ensure!(shop.reached()? == "old");
    // Two metrics have values only if a program is missing, and if a program of others runs.
    let others = ["198.51.100.7:80".parse()?, "198.51.100.8:80".parse()?];
    let _others = SocketLb::attach(&shop.pod, others[0], others[1])?;
    let pod = Pins::new(node.state_dir()).pod(node.pods()[0].id);
    fs::remove_file(pod.join("recv_msg6"))?;
    let has_value = |name| agent.try_metric(name, &["shop"]) == Some(1);
    agent.until("both are counted", || {
        has_value("redirect_foreign_programs") && has_value("redirect_program_missing")
    });
    let answer = agent.get("/metrics");
    let (head, body) = answer.split_once("\r\n\r\n").context("a body")?;
    ensure!(head.contains("application/openmetrics-text"), "{head}");
    ensure!(body.ends_with("# EOF\n"), "{body}");
    let is_part = |name: &str| name.ends_with("_bucket") || name.ends_with("_sum");
    let printed: BTreeSet<_> = body
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .filter(|name| !is_part(name))
        .map(|name| name.trim_end_matches("_count").to_owned())
        .collect();
    ensure!(printed == documented(), "{printed:?}, {:?}", documented());
    ensure!(agent.get("/healthz").starts_with("HTTP/1.1 200"));
    ensure!(agent.get("/nothing").starts_with("HTTP/1.1 404"));
    Ok(())
}
