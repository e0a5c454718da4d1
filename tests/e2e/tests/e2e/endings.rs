//! How containers end: in which order, what starts again, and which words of theirs are kept.

use std::fs;

use anyhow::{Result, ensure};
use knarr_e2e::{Cluster, image::BUSYBOX};

use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![
        ("sidecars_come_first_and_go_last", in_order),
        ("containers_restart_by_their_own_rules_and_keep_their_last_words", by_rules),
    ]
}

fn pod(at: usize, here: &str) -> String {
    let yaml = include_str!("ended.yaml").replace("IMAGE", BUSYBOX).replace("HERE", here);
    yaml.split("---\n").nth(at).unwrap_or_default().to_owned()
}

fn in_order(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("order")?;
    let here = cluster.scratch().join("order");
    fs::create_dir_all(&here)?;
    cluster.apply(&ns, &pod(0, &here.display().to_string()))?;
    cluster.kubectl(&format!("wait pod/ordered -n {ns} --for=condition=Ready --timeout=60s"))?;
    cluster.kubectl(&format!("delete pod/ordered -n {ns}"))?;
    let order = fs::read_to_string(here.join("order"))?;
    let order: Vec<&str> = order.lines().collect();
    let expected = ["first up", "second up", "main up", "main asked", "main down", "second down", "first down"];
    ensure!(order == expected, "{order:?}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn by_rules(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("rules")?;
    cluster.apply(&ns, &pod(1, ""))?;
    let pod = format!("pod/ruled -n {ns}");
    cluster.expect(&pod, "{.status.phase}", "Failed")?;
    let status = cluster.get(&pod)?["status"].clone();
    let all = status["initContainerStatuses"].as_array().into_iter().chain(status["containerStatuses"].as_array());
    let mut found = Vec::new();
    for container in all.flatten() {
        let ended = |state: &str| container[state]["terminated"].clone();
        found.push((
            container["name"].as_str().unwrap_or_default().to_owned(),
            container["restartCount"].as_i64(),
            ended("lastState")["exitCode"].as_i64(),
            ended("state")["exitCode"].as_i64(),
            ended("state")["message"].as_str().map(str::to_owned),
        ));
    }
    let row = |name: &str, restarts, before, code, words: Option<&str>| {
        (name.to_owned(), Some(restarts), before, Some(code), words.map(str::to_owned))
    };
    let expected = [
        row("prepare", 1, Some(3), 0, None),
        row("listed", 1, Some(42), 7, Some("said at run 2\n")),
        row("unlisted", 1, Some(5), 9, None),
        row("tries", 1, Some(1), 0, None),
        row("plain", 0, None, 1, None),
        row("writes", 0, None, 1, Some("in the file")),
    ];
    ensure!(found == expected, "{found:?}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}
