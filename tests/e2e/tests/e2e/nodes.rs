//! A second machine: it joins by a token, is lost, comes back, and is restarted.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use knarr_e2e::{
    Cluster,
    command::{PATIENCE, Running, run, start, succeed},
    eventually,
    host::HOST_IP,
};
use serde_json::{Value, json};

use crate::Alone;

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![("a_machine_joins_is_lost_and_comes_back", a_machine_joins_is_lost_and_comes_back)]
}

/// Its pods may run beside the server, and leave a lost node at once.
fn deployment() -> Value {
    let tolerate = |key: &str, effect: &str| json!({"key": key, "operator": "Exists", "effect": effect});
    let gone = ["unreachable", "not-ready"].map(|state| {
        let mut toleration = tolerate(&format!("node.kubernetes.io/{state}"), "NoExecute");
        toleration["tolerationSeconds"] = 0.into();
        toleration
    });
    let tolerations: Vec<Value> =
        gone.into_iter().chain([tolerate("node-role.kubernetes.io/control-plane", "NoSchedule")]).collect();
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
            "terminationGracePeriodSeconds": 1, "tolerations": tolerations,
            "containers": [{"name": "web", "image": "knarr.local/demo:v1"}]}}}})
}

/// The token out of the line that is to be typed.
fn token(cluster: &Cluster) -> Result<String> {
    let said = run(&mut cluster.knarr("token create"))?;
    let word = said.stdout.split_whitespace().skip_while(|word| *word != "--token").nth(1);
    Ok(word.with_context(|| said.all())?.to_owned())
}

fn agent(cluster: &Cluster, token: Option<&str>) -> Command {
    let mut agent = cluster.knarr_outside("agent --node-name node-2");
    agent.arg("--server").arg(format!("https://{HOST_IP}:6443"));
    agent.args(token.into_iter().flat_map(|token| ["--token", token]));
    agent
}

fn node_is(cluster: &Cluster, wanted: &str) -> Result<()> {
    eventually(&format!("node-2 is Ready={wanted}"), || {
        let node = cluster.get("node/node-2")?;
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == wanted);
        if is { Ok(()) } else { bail!("{}", node["status"]["conditions"]) }
    })
}

/// Waits until both replicas run on `node` and no other pod is left; gives their names.
fn replicas_are_on(cluster: &Cluster, node: &str) -> Result<Vec<String>> {
    eventually(&format!("two ready replicas on {node} and no others"), || {
        let pods = cluster.get("pods -l app=web")?["items"].as_array().cloned().unwrap_or_default();
        let good = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            pod["spec"]["nodeName"] == node && conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        if pods.len() != 2 || !pods.iter().all(good) {
            bail!("{} pods, not all good: {pods:?}", pods.len());
        }
        Ok(pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect())
    })
}

fn signal(process: &Running, name: &str) -> Result<()> {
    succeed(Command::new("kill").arg(format!("-{name}")).arg(process.id().to_string())).map(drop)
}

fn a_machine_joins_is_lost_and_comes_back() -> Result<()> {
    let mut cluster = Cluster::new()?;
    cluster.start_with(&["--node-monitor-grace-period", "5s"])?;
    let token = token(&cluster)?;
    let (all, last) = token.split_at(token.len() - 1);
    let foreign = format!("{all}{}", if last == "0" { "1" } else { "0" });
    let refused = run(&mut agent(&cluster, Some(&foreign)))?;
    ensure!(
        refused.code == 1 && refused.all().contains("is not the one that the token was made for"),
        "{}",
        refused.all()
    );

    let mut process = start(&mut agent(&cluster, Some(&token)), "")?;
    node_is(&cluster, "True")?;
    eventually("the server's node is tainted", || {
        let taints = cluster.get("node/node-1")?["spec"]["taints"].clone();
        let is = taints
            .as_array()
            .is_some_and(|list| list.iter().any(|t| t["key"] == "node-role.kubernetes.io/control-plane"));
        if is { Ok(()) } else { bail!("{taints}") }
    })?;
    cluster.kubectl("cordon node-1")?;
    cluster.kubectl_stdin("apply -f -", &deployment().to_string())?;
    let first = replicas_are_on(&cluster, "node-2")?;
    // The API server reaches the node by the certificate that it asked for.
    let logs = eventually("logs through the agent", || cluster.kubectl(&format!("logs {}", first[0])))?;
    ensure!(logs.contains("demo v1"), "{logs}");
    cluster.kubectl("uncordon node-1")?;

    // A kill and a start without a token: the same pods go on.
    process.kill()?;
    process = start(&mut agent(&cluster, None), "")?;
    eventually("the agent says that it is back", || cluster.kubectl(&format!("logs {}", first[0])))?;
    ensure!(replicas_are_on(&cluster, "node-2")? == first, "other pods after a restart of the agent");
    let restarts = cluster.get(&format!("pod/{}", first[0]))?["status"]["containerStatuses"][0]["restartCount"].clone();
    ensure!(restarts == 0, "{restarts} restarts");

    // Silence: the pods are replaced, and what is left of them ends when the node is back.
    signal(&process, "STOP")?;
    node_is(&cluster, "Unknown")?;
    let gone = cluster.get(&format!("pod/{}", first[0]))?;
    let ready = gone["status"]["conditions"].as_array().cloned().unwrap_or_default();
    ensure!(ready.iter().all(|c| c["type"] != "Ready" || c["status"] == "False"), "still ready: {gone}");
    signal(&process, "CONT")?;
    node_is(&cluster, "True")?;
    replicas_are_on(&cluster, "node-1")?;

    let said = run(&mut cluster.knarr_outside("reset --yes"))?;
    ensure!(said.code == 0, "{}", said.all());
    let ended = process.finish(PATIENCE)?;
    ensure!(!ended.all().contains(&token), "the token is in the log");
    cluster.kubectl("delete node node-2")?;
    eventually("its lease is gone", || cluster.kubectl_fails("get lease node-2 -n kube-node-lease"))?;
    eventually("the taint is gone", || {
        let node = cluster.get("node/node-1")?;
        if node["spec"]["taints"].is_null() { Ok(()) } else { bail!("{}", node["spec"]) }
    })?;
    cluster.reset().map(drop)
}
