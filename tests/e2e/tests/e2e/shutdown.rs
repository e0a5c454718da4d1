//! A machine that goes down: its pods end in order and say why, and come back only where somebody wants them.

use std::fs;

use anyhow::{Result, ensure};
use knarr_e2e::{
    Cluster,
    command::{PATIENCE, start},
    eventually,
    image::BUSYBOX,
    traces,
};
use serde_json::json;

use crate::Alone;

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![("a_machine_that_goes_down_ends_its_pods_in_order", in_order)]
}

const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";

fn in_order() -> Result<()> {
    let mut cluster = Cluster::new()?;
    cluster.start_with(&["--shutdown-grace-period", "9s", "--shutdown-grace-period-critical-pods", "5s"])?;
    let here = cluster.scratch().join("order");
    fs::create_dir_all(&here)?;
    let pod = |name: &str, class: Option<&str>, command: String| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "priorityClassName": class, "terminationGracePeriodSeconds": 100,
            "volumes": [{"name": "here", "hostPath": {"path": here}}],
            "containers": [{"name": "c", "image": BUSYBOX, "command": ["sh", "-c", command],
                "volumeMounts": [{"name": "here", "mountPath": "/here"}]}]}})
    };
    let says = |name: &str| format!("trap 'echo {name} >> /here/order; exit 0' TERM; sleep 1000 & wait");
    let items = [
        pod("critical", Some("system-node-critical"), says("critical")),
        pod("plain", None, says("plain")),
        // Ends when it is made to, and not before.
        pod("stubborn", None, "trap '' TERM; while :; do date +%s > /here/alive; sleep 0.2; done".to_owned()),
    ];
    cluster.apply("default", &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    cluster.kubectl("wait pod --all --for=condition=Ready --timeout=60s")?;

    let down = start(&mut cluster.knarr("down --pods"), "")?;
    let ready = "{.status.conditions[?(@.type==\"Ready\")]";
    let wanted = "False KubeletNotReady node is shutting down";
    cluster.expect("node/node-1", &format!("{ready}.status}} {ready}.reason}} {ready}.message}}"), wanted)?;
    let mut late = pod("late", None, "sleep 1000".to_owned());
    late["spec"]["nodeName"] = "node-1".into();
    cluster.apply("default", &late.to_string())?;
    cluster.expect("pod/late", "{.status.phase} {.status.reason}", "Failed NodeShutdown")?;
    let said = down.finish(PATIENCE)?;
    ensure!(said.code == 0 && said.stdout.contains("the pods of this node have ended"), "{}", said.all());
    let order = fs::read_to_string(here.join("order"))?;
    ensure!(order == "plain\ncritical\n", "{order:?}");
    let left = traces::shims(&cluster)?;
    ensure!(left.is_empty(), "{left:?}");

    cluster.start()?;
    for name in ["plain", "stubborn", "critical"] {
        let pod = cluster.get(&format!("pod/{name}"))?;
        let status = &pod["status"];
        ensure!(status["phase"] == "Failed" && status["reason"] == "Terminated", "{name}: {status}");
        ensure!(status["message"] == MESSAGE, "{name}: {status}");
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let disturbed = conditions.iter().find(|one| one["type"] == "DisruptionTarget").cloned().unwrap_or_default();
        ensure!(disturbed["reason"] == "TerminationByKubelet" && disturbed["message"] == MESSAGE, "{name}: {status}");
        let code = &status["containerStatuses"][0]["state"]["terminated"]["exitCode"];
        ensure!(*code == if name == "stubborn" { 137 } else { 0 }, "{name}: {status}");
    }
    eventually("the events tell", || {
        let events = cluster.kubectl("get events")?;
        ensure!(events.contains("Shutdown manager detected shutdown event"), "{events}");
        ensure!(events.contains("Node node-1 status is now: NodeNotReady"), "{events}");
        Ok(())
    })?;
    cluster.kubectl("delete pod --all")?;
    cluster.reset()?;
    Ok(())
}
