//! `kubectl wait` for what is to be, to change, or to go.

use anyhow::{Result, ensure};
use knarr_e2e::{
    Cluster,
    command::{PATIENCE, start},
};

use super::Kubectl;
use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("kubectl_wait", wait)]
}

fn wait(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "wait")?;
    let rows = [
        ("--for=create", "create configmap c --from-literal=a=b"),
        ("--for=jsonpath={.data.a}=c", r#"patch configmap c -p '{"data":{"a":"c"}}'"#),
        ("--for=jsonpath={.data.new}", r#"patch configmap c -p '{"data":{"new":"x"}}'"#),
        ("--for=delete", "delete configmap c"),
    ];
    for (what, act) in rows {
        let waiting = start(&mut kubectl.command(&format!("wait configmap/c {what} --timeout=30s")), "")?;
        // kubectl waits for what is to come, and sees what has come already.
        kubectl.ask(act)?;
        let said = waiting.finish(PATIENCE)?;
        // Of what is gone before it looked, kubectl says nothing.
        let is_told = said.stdout == "configmap/c condition met\n" || what == "--for=delete" && said.stdout.is_empty();
        ensure!(said.code == 0 && is_told, "{what}: {}", said.all());
    }
    kubectl.ask("create deployment web --image=knarr.local/demo:v1")?;
    kubectl.say(&[
        ("wait deployment/web --for=condition=Available --timeout=60s", "deployment.apps/web condition met"),
        ("wait deployment --all --for=condition=Available=true --timeout=60s", "deployment.apps/web condition met"),
        ("wait configmap/none --for=delete --timeout=5s", ""),
    ])?;
    kubectl.refuse(&[
        (
            "wait deployment/web --for=condition=Available=false --timeout=1s",
            "error: timed out waiting for the condition on deployments/web",
        ),
        (
            "wait configmap/none --for=jsonpath={.data} --timeout=1s",
            "Error from server (NotFound): configmaps \"none\" not found",
        ),
        ("wait configmap/none --for=create --timeout=1s", "error: timed out waiting for the condition"),
    ])?;
    kubectl.end()
}
