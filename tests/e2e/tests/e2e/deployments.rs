//! Deployments as people drive them: scale, edit, update, pause, undo.

use anyhow::{Result, ensure};
use knarr_e2e::{Cluster, eventually};

use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![
        ("explain", explain),
        ("a_deployment_is_scaled_and_edited", scaled_and_edited),
        ("a_rollout_has_history_and_can_be_undone", history_and_undo),
        ("a_rollout_pauses_and_resumes", pause_and_resume),
        ("a_bad_image_never_takes_traffic", bad_image),
        ("a_deleted_pod_comes_back", deleted_pod),
        ("recreate_stops_the_old_first", recreate),
    ]
}

const WEB: &str = include_str!("web.yaml");

/// Three web servers of version 1 and their Service `web`, ready.
pub fn deploy_web(cluster: &Cluster, ns: &str) -> Result<()> {
    cluster.apply(ns, WEB)?;
    cluster.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=60s"))?;
    Ok(())
}

fn explain(cluster: &Cluster) -> Result<()> {
    let text = cluster.kubectl("explain deployment")?;
    for part in ["GROUP:      apps", "KIND:       Deployment", "VERSION:    v1", "FIELDS:", "spec\t<DeploymentSpec>"] {
        ensure!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let text = cluster.kubectl("explain deployment --recursive")?;
    ensure!(text.contains("maxSurge\t<IntOrString>") && text.contains("readinessProbe\t<Probe>"), "{text}");
    let text = cluster.kubectl("explain deployment.spec.replicas")?;
    ensure!(text.contains("FIELD: replicas <integer>") && text.contains("Number of desired pods"), "{text}");
    Ok(())
}

fn scaled_and_edited(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("scale")?;
    deploy_web(cluster, &ns)?;
    for (what, column) in
        [("deployments", "READY"), ("replicasets", "DESIRED"), ("pods", "RESTARTS"), ("services", "CLUSTER-IP")]
    {
        let table = cluster.kubectl(&format!("get {what} -n {ns}"))?;
        ensure!(table.lines().next().unwrap_or_default().contains(column), "{table}");
    }
    cluster.kubectl(&format!("scale deployment/web -n {ns} --replicas=5"))?;
    cluster.expect(&format!("deployment/web -n {ns}"), "{.status.readyReplicas}", "5")?;
    let mut edit = cluster.kubectl_command(&["edit", "deployment/web", "-n", &ns]);
    edit.env("KUBE_EDITOR", "sed -i -e s/replicas:.5/replicas:\\ 2/");
    let said = knarr_e2e::command::run(&mut edit)?;
    ensure!(said.code == 0 && said.stdout.contains("deployment.apps/web edited"), "{}", said.all());
    cluster.expect(&format!("deployment/web -n {ns}"), "{.status.replicas}", "2")?;
    let pairs = cluster.kubectl_args(&[
        "get",
        "pods",
        "-n",
        &ns,
        "-o",
        r#"jsonpath={range .items[*]}{.metadata.name}{"\t"}{.spec.containers[0].image}{"\n"}{end}"#,
    ])?;
    ensure!(pairs.lines().all(|line| line.ends_with("\tknarr.local/demo:v1")), "{pairs}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn history_and_undo(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("undo")?;
    deploy_web(cluster, &ns)?;
    cluster.kubectl(&format!("set image deployment/web -n {ns} web=knarr.local/demo:v2"))?;
    let status = cluster.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=60s"))?;
    ensure!(status.contains("deployment \"web\" successfully rolled out"), "{status}");
    cluster.kubectl(&format!("set env deployment/web -n {ns} STAGE=three"))?;
    cluster.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=60s"))?;
    let history = cluster.kubectl(&format!("rollout history deployment/web -n {ns}"))?;
    let revisions: Vec<&str> =
        history.lines().filter_map(|l| l.split_whitespace().next()).filter(|w| w.parse::<u32>().is_ok()).collect();
    ensure!(revisions == ["1", "2", "3"], "{history}");
    let second = cluster.kubectl(&format!("rollout history deployment/web -n {ns} --revision=2"))?;
    ensure!(second.contains("knarr.local/demo:v2"), "{second}");
    cluster.kubectl(&format!("rollout undo deployment/web -n {ns} --to-revision=1"))?;
    cluster.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=60s"))?;
    cluster.expect(
        &format!("deployment/web -n {ns}"),
        "{.spec.template.spec.containers[0].image}",
        "knarr.local/demo:v1",
    )?;
    let history = cluster.kubectl(&format!("rollout history deployment/web -n {ns}"))?;
    let revisions: Vec<&str> =
        history.lines().filter_map(|l| l.split_whitespace().next()).filter(|w| w.parse::<u32>().is_ok()).collect();
    ensure!(revisions == ["2", "3", "4"], "{history}");
    cluster.kubectl(&format!("rollout restart deployment/web -n {ns}"))?;
    cluster.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=60s"))?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn pause_and_resume(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("pause")?;
    deploy_web(cluster, &ns)?;
    let image = "{.items[*].spec.containers[0].image}";
    cluster.kubectl(&format!("rollout pause deployment/web -n {ns}"))?;
    cluster.kubectl(&format!("set image deployment/web -n {ns} web=knarr.local/demo:v2"))?;
    cluster.expect(
        &format!("deployment/web -n {ns}"),
        r#"{.status.conditions[?(@.type=="Progressing")].reason}"#,
        "DeploymentPaused",
    )?;
    cluster.expect(&format!("pods -n {ns}"), image, &["knarr.local/demo:v1"; 3].join(" "))?;
    cluster.kubectl(&format!("rollout resume deployment/web -n {ns}"))?;
    cluster.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=60s"))?;
    cluster.expect(&format!("pods -n {ns}"), image, &["knarr.local/demo:v2"; 3].join(" "))?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn bad_image(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("badimage")?;
    deploy_web(cluster, &ns)?;
    cluster.kubectl(&format!("set image deployment/web -n {ns} web=localhost:1/none:v9"))?;
    eventually("the new pod says why it has no image", || {
        let table = cluster.kubectl(&format!("get pods -n {ns}"))?;
        ensure!(table.contains("ImagePullBackOff") || table.contains("ErrImagePull"), "{table}");
        Ok(())
    })?;
    cluster.expect(&format!("deployment/web -n {ns}"), "{.status.readyReplicas}", "3")?;
    let slices = cluster.get(&format!("endpointslices -n {ns} -l kubernetes.io/service-name=web"))?;
    let endpoints = slices["items"][0]["endpoints"].as_array().cloned().unwrap_or_default();
    let ready = endpoints.iter().filter(|e| e["conditions"]["ready"] == true).count();
    ensure!(ready == 3, "{endpoints:?}");
    cluster.kubectl(&format!("rollout undo deployment/web -n {ns}"))?;
    cluster.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=60s"))?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn deleted_pod(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("comesback")?;
    deploy_web(cluster, &ns)?;
    let names = || cluster.kubectl(&format!("get pods -n {ns} -o name"));
    let before = names()?;
    let first = before.lines().next().unwrap_or_default().to_owned();
    cluster.kubectl(&format!("delete {first} -n {ns}"))?;
    cluster.expect(&format!("deployment/web -n {ns}"), "{.status.readyReplicas}", "3")?;
    let after = names()?;
    ensure!(!after.contains(&first) && after.lines().count() == 3, "{before} became {after}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn recreate(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("recreate")?;
    deploy_web(cluster, &ns)?;
    let strategy = r#"{"spec":{"strategy":{"type":"Recreate","rollingUpdate":null}}}"#;
    cluster.kubectl_args(&["patch", "deployment/web", "-n", &ns, "-p", strategy])?;
    cluster.kubectl(&format!("set image deployment/web -n {ns} web=knarr.local/demo:v2"))?;
    cluster.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=60s"))?;
    let events = cluster.kubectl(&format!("events -n {ns} --for deployment/web"))?;
    let down = events.find("from 3 to 0").ok_or_else(|| anyhow::anyhow!("never scaled to 0:\n{events}"))?;
    ensure!(events[down..].contains("from 0 to 3"), "{events}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}
