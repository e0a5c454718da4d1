//! kubectl's commands for nodes, and its raw requests.

use anyhow::{Result, ensure};
use knarr_e2e::Cluster;

use super::Kubectl;
use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("kubectl_taints_cordons_and_drains", nodes), ("kubectl_raw_requests", raw)]
}

fn nodes(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "marked")?;
    let taints = "get node node-1 -o 'jsonpath={.spec.taints} {.spec.unschedulable}'";
    kubectl.say(&[
        ("taint node node-1 k=v:PreferNoSchedule", "node/node-1 tainted"),
        (taints, r#"[{"effect":"PreferNoSchedule","key":"k","value":"v"}] "#),
        ("taint node node-1 k=w:PreferNoSchedule --overwrite", "node/node-1 modified"),
        (taints, r#"[{"effect":"PreferNoSchedule","key":"k","value":"w"}] "#),
        ("taint node node-1 k:PreferNoSchedule-", "node/node-1 untainted"),
        (taints, ""),
    ])?;
    kubectl.refuse(&[
        ("taint node node-1 gone-", "error: taint \"gone\" not found"),
        ("taint node none k=v:NoSchedule", "Error from server (NotFound): nodes \"none\" not found"),
    ])?;
    kubectl.ask("create deployment web --image=knarr.local/demo:v1")?;
    kubectl.ask("rollout status deployment/web --timeout=60s")?;
    kubectl.ask("create poddisruptionbudget web --selector=app=web --min-available=1")?;
    kubectl.ask("wait pdb/web --for=jsonpath={.status.currentHealthy}=1 --timeout=20s")?;
    let pod = kubectl.ask("get pods -o jsonpath={.items[0].metadata.name}")?;
    let uncordoned = || kubectl.say(&[("uncordon node-1", "node/node-1 uncordoned")]);
    let drained = || -> Result<()> {
        kubectl.say(&[("cordon node-1", "node/node-1 cordoned"), ("cordon node-1", "node/node-1 already cordoned")])?;
        kubectl.table("get node node-1 --no-headers", &["node-1 Ready,SchedulingDisabled control-plane * *"])?;
        // The budget holds the pod here, until there is none.
        let line = "drain node-1 --ignore-daemonsets --pod-selector=app=web --timeout=1s";
        let said = kubectl.run(line, "")?;
        let why = format!(
            "error when evicting pods/\"{pod}\" -n \"{}\" (will retry after 5s): Cannot evict pod as it would violate the \
             pod's disruption budget.",
            kubectl.ns
        );
        ensure!(said.code == 1 && said.stderr.contains(&why), "{}", said.all());
        kubectl.ask("delete pdb web")?;
        let said = kubectl.run(&line.replace("1s", "60s"), "")?;
        let wanted = format!(
            "node/node-1 already cordoned\nevicting pod {}/{pod}\npod/{pod} evicted\nnode/node-1 drained\n",
            kubectl.ns
        );
        ensure!(said.code == 0 && said.stdout == wanted, "{}", said.all());
        kubectl.table("get pods --no-headers", &["* 0/1 Pending 0 *"])
    };
    // The node is given back, however that went.
    let outcome = drained();
    uncordoned()?;
    outcome?;
    kubectl.ask("rollout status deployment/web --timeout=60s")?;
    kubectl.end()
}

fn raw(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "raw")?;
    let maps = format!("/api/v1/namespaces/{}/configmaps", kubectl.ns);
    let map =
        |more: &str| format!("{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"r\"}}{more}}}");
    let made = kubectl.feed(&format!("create --raw {maps} -f -"), &map(""))?;
    ensure!(made.contains("\"name\":\"r\"") || made.contains("\"name\": \"r\""), "{made}");
    kubectl.feed(&format!("replace --raw {maps}/r -f -"), &map(",\"data\":{\"a\":\"b\"}"))?;
    kubectl.say(&[("get configmap r -o jsonpath={.data.a}", "b"), ("get --raw /livez/ping", "ok")])?;
    let page: serde_json::Value = serde_json::from_str(&kubectl.ask(&format!("get --raw {maps}?limit=1"))?)?;
    ensure!(page["kind"] == "ConfigMapList" && page["metadata"]["remainingItemCount"] == 1, "{page}");
    let gone: serde_json::Value = serde_json::from_str(&kubectl.ask(&format!("delete --raw {maps}/r"))?)?;
    ensure!(gone["kind"] == "Status" && gone["status"] == "Success", "{gone}");
    kubectl.refuse(&[(
        "get --raw /api/v1/nothing",
        "Error from server (NotFound): the server could not find the requested resource",
    )])?;
    kubectl.end()
}
