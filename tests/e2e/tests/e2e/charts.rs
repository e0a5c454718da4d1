//! Helm with a chart that brings everything charts bring: a definition and its resources, hooks, tests, webhooks.

use anyhow::{Result, ensure};
use knarr_e2e::{
    Clients, Cluster, Local,
    command::{self, Said, succeed},
    debian,
};

use crate::{OnFive, Shared};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/charts/harbour");
/// Sooner than the test gives up, so that Helm can say what it waits for.
const QUICKLY: &str = "--wait --timeout 50s";

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("a_chart_with_a_definition_and_hooks", hooks)]
}

pub fn on_five() -> Vec<(&'static str, OnFive)> {
    vec![("a_chart_brings_its_webhooks", webhooks)]
}

fn helm(cluster: &Clients, line: &str) -> Result<String> {
    succeed(&mut cluster.helm_command(line))
}

fn helm_fails(cluster: &Clients, line: &str) -> Result<Said> {
    let said = command::run(&mut cluster.helm_command(line))?;
    ensure!(said.code == 1, "helm {line}: {}", said.all());
    Ok(said)
}

/// Status and description of every revision, newest last.
fn history(cluster: &Clients, ns: &str) -> Result<Vec<String>> {
    let revisions = helm(cluster, &format!("history pier -n {ns} -o json"))?;
    let revisions: Vec<serde_json::Value> = serde_json::from_str(&revisions)?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok(revisions.iter().map(|r| format!("{}: {}", text(&r["status"]), text(&r["description"]))).collect())
}

fn end(cluster: &Clients, ns: &str) -> Result<()> {
    // Helm leaves definitions where they are.
    cluster.kubectl("delete crd berths.harbour.example.com --timeout=30s")?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn hooks(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("hooks")?;
    let job = |name: &str| anyhow::Ok(cluster.kubectl(&format!("logs job/pier-{name} -n {ns}"))?.trim_end().to_owned());
    let installed = helm(cluster, &format!("install pier {CHART} -n {ns} {QUICKLY}"))?;
    ensure!(installed.contains("STATUS: deployed\n") && installed.ends_with("pier has 2 places.\n"), "{installed}");
    let berth = format!("berths.harbour.example.com/pier -n {ns}");
    cluster.expect(&berth, "{.spec.places}", "2")?;
    // What charts ask the cluster for while they are rendered.
    let version: serde_json::Value = serde_json::from_str(&cluster.kubectl("get --raw /version")?)?;
    let version = version["gitVersion"].as_str().unwrap_or_default();
    let asked = "{.data.version} {.data.defined} {.data.namespace}";
    cluster.expect(&format!("configmap/pier -n {ns}"), asked, &format!("{version} true {ns}"))?;
    // The first hook's job went as it succeeded, which it could not before the plan; later ones stay.
    let jobs = cluster.kubectl(&format!("get jobs -n {ns} -o name"))?;
    ensure!(jobs == "job.batch/pier-post-install\n", "{jobs}");
    ensure!(job("post-install")? == "2", "{}", job("post-install")?);
    let tested = helm(cluster, &format!("test pier -n {ns}"))?;
    ensure!(tested.contains("TEST SUITE:     pier-test\n") && tested.contains("Phase:          Succeeded"), "{tested}");

    helm(cluster, &format!("upgrade pier {CHART} -n {ns} --set places=3 {QUICKLY}"))?;
    cluster.expect(&berth, "{.spec.places}", "3")?;
    ensure!(job("pre-upgrade")? == "2" && job("post-upgrade")? == "3", "hooks ran at the wrong time");
    helm(cluster, &format!("rollback pier 1 -n {ns} {QUICKLY}"))?;
    cluster.expect(&berth, "{.spec.places}", "2")?;
    ensure!(job("pre-rollback")? == "3" && job("post-rollback")? == "2", "hooks ran at the wrong time");
    // What the definition's schema does not allow fails the release, and the one before comes back.
    let refused = helm_fails(
        cluster,
        &format!("upgrade pier {CHART} -n {ns} --set places=many --rollback-on-failure --timeout 50s"),
    )?;
    ensure!(refused.stderr.contains("has been rolled back due to rollback-on-failure being set"), "{}", refused.all());
    cluster.expect(&berth, "{.spec.places}", "2")?;
    let told = history(cluster, &ns)?;
    let wanted = ["superseded: Install complete", "superseded: Upgrade complete", "superseded: Rollback to 1"];
    ensure!(told[..3] == wanted && told[3].starts_with("failed: Upgrade \"pier\" failed: "), "{told:#?}");
    ensure!(told.len() == 5 && told[4] == "deployed: Rollback to 3", "{told:#?}");

    // Nor does anything change where a hook fails.
    let upgrade = format!("upgrade pier {CHART} -n {ns} --set places=5,broken=pre-upgrade --timeout 50s");
    let refused = helm_fails(cluster, &upgrade)?;
    let why = format!(
        "Error: UPGRADE FAILED: pre-upgrade hooks failed: resource Job/{ns}/pier-pre-upgrade not ready. status: Failed, \
         message: Job Failed. failed: 1/1\n"
    );
    ensure!(refused.stderr.ends_with(&why), "{}", refused.all());
    cluster.expect(&berth, "{.spec.places}", "2")?;

    helm(cluster, &format!("uninstall pier -n {ns} {QUICKLY}"))?;
    ensure!(job("pre-delete")? == "2" && job("post-delete")? == "gone", "hooks ran at the wrong time");
    let left = cluster.kubectl(&format!("get berths,secrets -n {ns} -o name"))?;
    ensure!(left.is_empty(), "{left}");
    end(cluster, &ns)
}

/// A web server of the chart's own looks at every Berth, over TLS with certificates that Helm made.
fn webhooks(five: &Local) -> Result<()> {
    succeed(five.knarr("cluster import").arg(debian::images(&five.cache("debian"))?))?;
    let ns = five.namespace("inspected")?;
    let upgrade = |places: u32| format!("upgrade pier {CHART} -n {ns} --set inspected=true,places={places}");
    helm(five, &format!("install pier {CHART} -n {ns} --set inspected=true,places=0 {QUICKLY}"))?;
    let berth = format!("berths.harbour.example.com/pier -n {ns}");
    helm(five, &format!("{} {QUICKLY}", upgrade(4)))?;
    five.expect(&berth, "{.spec.places} {.metadata.labels.inspected-by}", "4 customs")?;
    let refused = helm_fails(five, &format!("{} --timeout 50s", upgrade(11)))?;
    let why = "admission webhook \"inspect.harbour.example.com\" denied the request: 11 places are more than ten";
    ensure!(refused.stderr.contains(why), "{}", refused.all());

    // Whoever else writes is looked at, too.
    let patch = |patch: &str| {
        let mut kubectl = five.kubectl_command(&["patch", "berth", "pier", "-n", &ns, "--type=merge", "-p", patch]);
        command::run(&mut kubectl)
    };
    let said = patch(r#"{"spec":{"places":12}}"#)?;
    let wanted = "Error from server: admission webhook \"inspect.harbour.example.com\" denied the request: \
                  12 places are more than ten\n";
    ensure!(said.code == 1 && said.stderr.replace("server (Forbidden)", "server") == wanted, "{}", said.all());
    let said = patch(r#"{"spec":{"places":7},"metadata":{"labels":null}}"#)?;
    ensure!(said.stdout == "berth.harbour.example.com/pier patched\n", "{}", said.all());
    ensure!(said.stderr == "Warning: 7 places are many\n", "{}", said.stderr);
    five.expect(&berth, "{.spec.places} {.metadata.labels.inspected-by}", "7 customs")?;

    helm(five, &format!("uninstall pier -n {ns} {QUICKLY}"))?;
    let left = five.kubectl("get mutatingwebhookconfigurations,validatingwebhookconfigurations -o name")?;
    ensure!(!left.contains("pier-inspector"), "{left}");
    end(five, &ns)
}
