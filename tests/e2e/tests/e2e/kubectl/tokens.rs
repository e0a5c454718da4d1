//! `kubectl create token`: for whom, for whom else, for how long, and bound to what.

use anyhow::{Context, Result, ensure};
use knarr_e2e::{
    Cluster,
    command::{PATIENCE, run_with},
    image::BUSYBOX,
};
use serde_json::{Value, json};

use super::Kubectl;
use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("kubectl_create_token", tokens), ("a_token_ends_with_what_it_is_bound_to", bound)]
}

/// What a token says of itself (RFC 7519).
fn claims(token: &str) -> Result<Value> {
    let middle = token.split('.').nth(1).context("no token")?.replace('-', "+").replace('_', "/");
    let padded = format!("{middle}{}", "=".repeat((4 - middle.len() % 4) % 4));
    let decoded = run_with(std::process::Command::new("base64").arg("-d"), &padded, PATIENCE)?;
    Ok(serde_json::from_str(&decoded.stdout)?)
}

fn tokens(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "tokens")?;
    kubectl.say(&[("create serviceaccount robot", "serviceaccount/robot created")])?;
    let uid = kubectl.ask("get serviceaccount robot -o jsonpath={.metadata.uid}")?;
    for (more, audiences, seconds) in [
        ("", json!(["https://kubernetes.default.svc.cluster.local"]), 3600),
        ("--duration=10m", json!(["https://kubernetes.default.svc.cluster.local"]), 600),
        ("--audience=one --audience=two --duration=2h", json!(["one", "two"]), 7200),
    ] {
        let found = claims(&kubectl.ask(format!("create token robot {more}").trim_end())?)?;
        let lasts = found["exp"].as_u64().unwrap_or_default() - found["iat"].as_u64().unwrap_or_default();
        ensure!(found["aud"] == audiences && lasts == seconds, "{more}: {found}");
        ensure!(found["sub"] == format!("system:serviceaccount:{}:robot", kubectl.ns), "{found}");
        let own = json!({"namespace": kubectl.ns, "serviceaccount": {"name": "robot", "uid": uid}});
        ensure!(found["kubernetes.io"] == own, "{found}");
    }
    let request = kubectl.ask("create token robot --duration=15m -o jsonpath={.kind}/{.metadata.name}/{.spec}")?;
    let wanted = "TokenRequest/robot/{\"audiences\":[\"https://kubernetes.default.svc.cluster.local\"],\
                  \"boundObjectRef\":null,\"expirationSeconds\":900}";
    ensure!(request == wanted, "{request}");
    kubectl.refuse(&[
        (
            "create token robot --duration=1m",
            "error: failed to create token: TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: \
             Invalid value: 60: may not specify a duration less than 10 minutes",
        ),
        ("create token nobody", "error: failed to create token: serviceaccounts \"nobody\" not found"),
        (
            "create token robot --bound-object-kind=Secret --bound-object-name=none",
            "error: failed to create token: secrets \"none\" not found",
        ),
        (
            "create token robot --bound-object-kind=Node --bound-object-name=node-1 --bound-object-uid=other",
            "error: failed to create token: Operation cannot be fulfilled on Node \"node-1\": the UID in the bound \
             object reference (other) does not match the UID in record. The object might have been deleted and then \
             recreated",
        ),
        (
            "create token robot --as bob",
            "error: failed to create token: serviceaccounts \"robot\" is forbidden: User \"bob\" cannot create resource \
             \"serviceaccounts/token\" in API group \"\" in the namespace \"NS\"",
        ),
    ])?;
    kubectl.end()
}

fn bound(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "bound")?;
    let server = cluster.get_raw_config()?.server;
    let whoami = |token: &str| {
        kubectl.run(
            &format!("auth whoami --kubeconfig=/dev/null --insecure-skip-tls-verify --server={server} --token={token}"),
            "",
        )
    };
    kubectl.ask("create serviceaccount robot")?;
    kubectl.ask("create secret generic tie")?;
    kubectl.ask(&format!(
        "run tie --image={BUSYBOX} --overrides={{\"spec\":{{\"serviceAccountName\":\"robot\"}}}} -- sleep 1000"
    ))?;
    kubectl.ask("wait pod/tie --for=condition=Ready --timeout=60s")?;
    for (kind, object, delete) in [
        ("Secret", "secret/tie", "delete secret tie"),
        ("Pod", "pod/tie", "delete pod tie --force --grace-period=0"),
        ("Node", "node/node-1", ""),
    ] {
        let name = object.split('/').nth(1).unwrap_or_default();
        let token =
            kubectl.ask(&format!("create token robot --bound-object-kind={kind} --bound-object-name={name}"))?;
        let token = token.trim_end();
        let uid = kubectl.ask(&format!("get {object} -o jsonpath={{.metadata.uid}}"))?;
        let found = claims(token)?;
        let tie = &found["kubernetes.io"][kind.to_lowercase()];
        ensure!(*tie == json!({"name": name, "uid": uid}), "{found}");
        let said = whoami(token)?;
        ensure!(said.stdout.contains(&format!("system:serviceaccount:{}:robot\n", kubectl.ns)), "{}", said.all());
        if !delete.is_empty() {
            kubectl.ask(delete)?;
            let said = whoami(token)?;
            ensure!(said.code == 1, "{object} is gone: {}", said.all());
            ensure!(said.stderr == "error: You must be logged in to the server (Unauthorized)\n", "{}", said.stderr);
        }
    }
    let said = whoami(kubectl.ask("create token robot --audience=elsewhere")?.trim_end())?;
    ensure!(said.code == 1 && said.stderr.contains("(Unauthorized)"), "a token for others: {}", said.all());
    kubectl.end()
}
