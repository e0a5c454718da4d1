//! What real clients do beside the everyday: apply on the server, diff, wait, describe, events, Helm; and what they
//! are told when they are wrong.

use std::fs;

use anyhow::{Result, ensure};
use knarr_e2e::{Cluster, command, eventually};

use crate::{Shared, deployments::deploy_web};

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![
        ("server_side_apply_and_its_conflicts", server_side_apply),
        ("diff_shows_what_would_change", diff),
        ("describe_and_events", describe),
        ("delete_namespace_takes_all", delete_namespace),
        ("helm_installs_upgrades_and_rolls_back", helm),
        ("bad_input_is_explained", bad_input),
        ("foreign_credentials_are_refused", credentials),
        ("every_resource_is_discovered_and_explained", discovery),
    ]
}

fn configmap(colour: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {{colour: {colour}}}\n")
}

fn server_side_apply(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("ssa")?;
    let apply = |colour: &str, more: &str| {
        let line = format!("apply --server-side -n {ns} -f - {more}");
        command::run_with(
            &mut cluster.kubectl_command(&line.split_whitespace().collect::<Vec<_>>()),
            &configmap(colour),
            command::PATIENCE,
        )
    };
    let said = apply("blue", "")?;
    ensure!(said.stdout.contains("configmap/c serverside-applied"), "{}", said.all());
    let said = apply("green", "--field-manager=other")?;
    ensure!(
        said.code != 0 && said.stderr.contains("Apply failed with 1 conflict: conflict with \"kubectl\": .data.colour"),
        "{}",
        said.all()
    );
    let said = apply("green", "--field-manager=other --force-conflicts")?;
    ensure!(said.code == 0, "{}", said.all());
    cluster.expect(&format!("configmap/c -n {ns}"), "{.data.colour}", "green")?;
    let managers = cluster.kubectl(&format!(
        "get configmap c -n {ns} --show-managed-fields -o jsonpath={{.metadata.managedFields[*].manager}}"
    ))?;
    ensure!(managers == "other", "{managers}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn diff(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("diff")?;
    cluster.apply(&ns, &configmap("blue"))?;
    let diff = |yaml: &str| {
        command::run_with(&mut cluster.kubectl_command(&["diff", "-n", &ns, "-f", "-"]), yaml, command::PATIENCE)
    };
    ensure!(diff(&configmap("blue"))?.code == 0, "a difference where there is none");
    let said = diff(&configmap("red"))?;
    ensure!(
        said.code == 1 && said.stdout.contains("-  colour: blue") && said.stdout.contains("+  colour: red"),
        "{}",
        said.all()
    );
    cluster.expect(&format!("configmap/c -n {ns}"), "{.data.colour}", "blue")?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn describe(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("describe")?;
    deploy_web(cluster, &ns)?;
    let text = cluster.kubectl(&format!("describe deployment web -n {ns}"))?;
    for part in [
        "Replicas:               3 desired | 3 updated | 3 total | 3 available | 0 unavailable",
        "MinimumReplicasAvailable",
        "NewReplicaSetAvailable",
        "ScalingReplicaSet",
    ] {
        ensure!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let text = cluster.kubectl(&format!("describe service web -n {ns}"))?;
    ensure!(text.contains("Endpoints:") && text.matches(":8080").count() >= 3, "{text}");
    let text = cluster.kubectl("describe node node-1")?;
    for part in ["Allocatable:", "KubeletReady", "Non-terminated Pods:", "Allocated resources:"] {
        ensure!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let events = cluster.kubectl(&format!("get events -n {ns}"))?;
    for reason in ["Scheduled", "Pulled", "Created", "Started", "SuccessfulCreate", "ScalingReplicaSet"] {
        ensure!(events.contains(reason), "no {reason} in:\n{events}");
    }
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn delete_namespace(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("gone")?;
    deploy_web(cluster, &ns)?;
    cluster.apply(&ns, &configmap("blue"))?;
    cluster.kubectl(&format!("delete namespace {ns} --timeout=60s"))?;
    for what in ["pods", "deployments", "replicasets", "services", "endpointslices", "configmaps", "secrets", "events"]
    {
        let left = cluster.kubectl(&format!("get {what} -n {ns} -o name"))?;
        ensure!(left.is_empty(), "{what}: {left}");
    }
    let refused = cluster.kubectl_fails(&format!("create configmap x -n {ns}"))?;
    ensure!(refused.contains(&format!("namespaces \"{ns}\" not found")), "{refused}");
    Ok(())
}

fn helm(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("helm")?;
    let chart = cluster.scratch().join("chart");
    fs::create_dir_all(chart.join("templates"))?;
    fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: small\nversion: 0.1.0\n")?;
    fs::write(chart.join("values.yaml"), "replicas: 1\ntag: v1\n")?;
    fs::write(
        chart.join("templates/all.yaml"),
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {{ .Release.Name }}\nspec:\n  replicas: {{ .Values.replicas }}\n  \
         selector: {matchLabels: {app: {{ .Release.Name }}}}\n  template:\n    metadata: {labels: {app: {{ .Release.Name }}}}\n    spec:\n      \
         containers: [{name: web, image: 'knarr.local/demo:{{ .Values.tag }}', ports: [{containerPort: 8080}]}]\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata: {tag: {{ .Values.tag }}}\n",
    )?;
    let helm = |line: &str| command::succeed(&mut cluster.helm_command(line));
    helm(&format!("install shop {} -n {ns} --wait --timeout 60s", chart.display()))?;
    helm(&format!("upgrade shop {} -n {ns} --set tag=v2,replicas=2 --wait --timeout 60s", chart.display()))?;
    cluster.expect(
        &format!("deployment/shop -n {ns}"),
        "{.spec.replicas} {.spec.template.spec.containers[0].image}",
        "2 knarr.local/demo:v2",
    )?;
    helm(&format!("rollback shop 1 -n {ns} --wait --timeout 60s"))?;
    cluster.expect(&format!("configmap/shop -n {ns}"), "{.data.tag}", "v1")?;
    let history = helm(&format!("history shop -n {ns}"))?;
    ensure!(history.contains("Rollback to 1"), "{history}");
    helm(&format!("uninstall shop -n {ns} --wait --timeout 60s"))?;
    let left = cluster.kubectl(&format!("get deployments,configmaps -n {ns} -o name"))?;
    ensure!(!left.contains("shop"), "{left}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn bad_input(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("bad")?;
    let post = |path: &str, kind: &str, body: &str, more: &[&str]| -> Result<String> {
        let file = cluster.scratch().join("body");
        fs::write(&file, body)?;
        let config = cluster.get_raw_config()?;
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sS", "--cacert"])
            .arg(&config.ca)
            .arg("--cert")
            .arg(&config.certificate)
            .arg("--key")
            .arg(&config.key);
        curl.args(["-H", &format!("Content-Type: {kind}"), "--data-binary"]).arg(format!("@{}", file.display()));
        let answer = command::succeed(curl.args(more).arg(format!("{}{path}", config.server)))?;
        // Curl gets its answers indented.
        Ok(serde_json::from_str::<serde_json::Value>(&answer).map_or(answer, |status| status.to_string()))
    };
    let path = format!("/api/v1/namespaces/{ns}/configmaps");
    let rows: [(&str, &str, &str, &str); 9] = [
        (&path, "application/json", "{\"kind\":", "\"code\":400"),
        (&path, "application/yaml", "a: [", "\"code\":400"),
        (
            &path,
            "application/json",
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{"a":1}}"#,
            "cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        (
            &path,
            "application/json",
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"Not_Valid"}}"#,
            "a lowercase RFC 1123 subdomain must consist of",
        ),
        (&path, "application/json", r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"x"}}"#, "\"code\":400"),
        (&path, "application/x-unknown", "{}", "\"code\":415"),
        (
            &format!("{path}?fieldValidation=Strict"),
            "application/json",
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"dta":{}}"#,
            "strict decoding error: unknown field \\\"dta\\\"",
        ),
        (
            "/api/v1/namespaces/missing/configmaps",
            "application/json",
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"}}"#,
            "namespaces \\\"missing\\\" not found",
        ),
        ("/apis/none.example/v1/things", "application/json", "{}", "404 page not found"),
    ];
    for (path, kind, body, wanted) in rows {
        let answer = post(path, kind, body, &[])?;
        ensure!(answer.contains(wanted), "{body}: no {wanted:?} in {answer}");
    }
    let large = format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"x"}},"data":{{"a":"{}"}}}}"#,
        "x".repeat(4 << 20)
    );
    let answer = post(&path, "application/json", &large, &[])?;
    ensure!(answer.contains("\"code\":413"), "{answer}");
    ensure!(
        cluster.kubectl(&format!("get configmaps -n {ns} -o name"))?.trim() == "configmap/kube-root-ca.crt",
        "something was stored"
    );
    deploy_web(cluster, &ns)?;
    let refused = cluster.kubectl_fails(&format!("patch deployment web -n {ns} --type=merge -p {{\"spec\":{{\"selector\":{{\"matchLabels\":{{\"app\":\"other\"}}}}}}}}"))?;
    ensure!(refused.contains("field is immutable"), "{refused}");
    let stale = r#"{"metadata":{"resourceVersion":"1"},"data":{"a":"b"}}"#;
    cluster.apply(&ns, &configmap("blue"))?;
    let refused = cluster.kubectl_fails(&format!("patch configmap c -n {ns} --type=merge -p {stale}"))?;
    ensure!(
        refused.contains("the object has been modified; please apply your changes to the latest version and try again"),
        "{refused}"
    );
    let refused = cluster.kubectl_fails(&format!("get nothings -n {ns}"))?;
    ensure!(refused.contains("the server doesn't have a resource type \"nothings\""), "{refused}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn credentials(cluster: &Cluster) -> Result<()> {
    let config = cluster.get_raw_config()?;
    let curl = |args: &[&str], path: &str| {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sS", "-k", "-o", "-", "-w", " %{http_code}"]).args(args);
        command::run(curl.arg(format!("{}{path}", config.server)))
    };
    for path in ["/healthz", "/livez", "/readyz"] {
        let said = curl(&[], path)?;
        ensure!(said.stdout == "ok 200", "{path}: {}", said.all());
    }
    for path in ["/api", "/api/v1/pods", "/metrics", "/version", "/openapi/v3"] {
        let said = curl(&[], path)?;
        ensure!(said.stdout.ends_with(" 401"), "{path} without credentials: {}", said.all());
        let said = curl(&["-H", "Authorization: Bearer nonsense"], path)?;
        ensure!(said.stdout.ends_with(" 401"), "{path} with a foreign token: {}", said.all());
    }
    let foreign = cluster.scratch().join("foreign");
    let line = format!(
        "req -x509 -newkey rsa:2048 -nodes -keyout {0}.key -out {0}.crt -days 1 -subj /O=system:masters/CN=admin",
        foreign.display()
    );
    command::succeed(std::process::Command::new("openssl").args(line.split(' ')))?;
    let (certificate, key) = (format!("{}.crt", foreign.display()), format!("{}.key", foreign.display()));
    let said = curl(&["--cert", &certificate, "--key", &key], "/api/v1/secrets")?;
    let is_status = said.stdout.contains("\"kind\": \"Status\"") && said.stdout.ends_with(" 401");
    ensure!(is_status, "a foreign certificate: {}", said.all());
    let said = command::run(std::process::Command::new("curl").args([
        "-sS",
        "-k",
        "-w",
        " %{http_code}",
        &format!("https://{}:10250/pods", cluster.address()),
    ]))?;
    ensure!(said.stdout.ends_with(" 401"), "the node's port: {}", said.all());
    Ok(())
}

fn discovery(cluster: &Cluster) -> Result<()> {
    let table = cluster.kubectl("api-resources --no-headers")?;
    let facts = include_str!("../../../../crates/api/data/resources-1.36.tsv");
    for row in facts.lines().skip(1) {
        let cells: Vec<&str> = row.split('\t').collect();
        let (group, kind, plural) = (cells[0], cells[2], cells[4]);
        let found = table.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.first() == Some(&plural) && words.last() == Some(&kind) && (group.is_empty() || line.contains(group))
        });
        ensure!(found, "{plural}.{group} is not in:\n{table}");
        let name = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{}.{group}", cells[1]) };
        if cells[7].contains("list") {
            eventually("explained", || {
                cluster.kubectl(&format!(
                    "explain {plural} --api-version={}",
                    if group.is_empty() { cells[1].into() } else { format!("{group}/{}", cells[1]) }
                ))
            })?;
            cluster.kubectl(&format!("get {name} -A"))?;
        }
    }
    Ok(())
}
