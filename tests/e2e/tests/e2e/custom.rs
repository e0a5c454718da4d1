//! CustomResourceDefinitions as their users meet them: kubectl and Helm.

use std::fs;

use anyhow::{Result, ensure};
use knarr_e2e::{Cluster, command};

use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("custom_resources_are_like_any_other", custom_resources), ("helm_brings_definitions_along", helm)]
}

/// A definition of the test's own group, so that tests do not meet.
fn definition(group: &str) -> String {
    format!(
        "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: crontabs.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        description: A table of times.
        properties:
          spec:
            type: object
            required: [cronSpec]
            properties:
              cronSpec: {{type: string, description: When it runs., pattern: '^(\\S+ ){{4}}\\S+$'}}
              image: {{type: string, default: busybox}}
              replicas: {{type: integer, minimum: 0, maximum: 10}}
          status:
            type: object
            properties:
              replicas: {{type: integer}}
              labelSelector: {{type: string}}
    subresources:
      status: {{}}
      scale: {{specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.labelSelector}}
    selectableFields: [{{jsonPath: .spec.image}}]
    additionalPrinterColumns:
    - {{name: Spec, type: string, jsonPath: .spec.cronSpec}}
    - {{name: Replicas, type: integer, jsonPath: .spec.replicas}}
    - {{name: Age, type: date, jsonPath: .metadata.creationTimestamp}}
"
    )
}

fn crontab(group: &str, more: &str) -> String {
    format!("apiVersion: {group}/v1\nkind: CronTab\nmetadata: {{name: mine}}\nspec:\n  cronSpec: '* * * * */5'\n{more}")
}

fn custom_resources(cluster: &Cluster) -> Result<()> {
    let (ns, group) = (cluster.namespace("custom")?, "stable.example.com");
    cluster.kubectl_stdin("apply -f -", &definition(group))?;
    cluster.kubectl(&format!("wait crd/crontabs.{group} --for=condition=Established --timeout=20s"))?;
    let explained = cluster.kubectl("explain crontabs.spec.cronSpec")?;
    ensure!(explained.contains("When it runs.") && explained.contains("<string>"), "{explained}");

    cluster.apply(&ns, &crontab(group, "  replicas: 1\n"))?;
    let table = cluster.kubectl(&format!("get ct -n {ns}"))?;
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let (head, row) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    ensure!(head == ["NAME", "SPEC", "REPLICAS", "AGE"], "{table}");
    ensure!(row.len() > 6 && row[0] == "mine" && row[6] == "1", "{table}");
    ensure!(cluster.kubectl(&format!("get all -n {ns} -o name"))?.contains("crontab.stable.example.com/mine"));
    let selected = cluster.kubectl(&format!("get ct -n {ns} --field-selector spec.image=busybox -o name"))?;
    ensure!(selected.contains("mine"), "{selected}");

    writes(cluster, &ns, group)?;
    cluster.kubectl(&format!("delete crd crontabs.{group} --timeout=30s"))?;
    let gone = cluster.kubectl_fails(&format!("get crontabs.{group} -n {ns}"))?;
    ensure!(gone.contains("the server doesn't have a resource type"), "{gone}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn writes(cluster: &Cluster, ns: &str, group: &str) -> Result<()> {
    let object = format!("crontab/mine -n {ns}");
    cluster.kubectl(&format!("scale {object} --replicas=4"))?;
    cluster.expect(&object, "{.spec.replicas} {.metadata.generation}", "4 2")?;
    let status = ["patch", "crontab", "mine", "-n", ns, "--subresource=status", "--type=merge", "-p"];
    cluster.kubectl_args(&[&status[..], &[r#"{"status":{"replicas":4}}"#]].concat())?;
    cluster.kubectl(&format!("wait {object} --for=jsonpath={{.status.replicas}}=4 --timeout=20s"))?;

    // What the schema does not know is refused by kubectl's default, and dropped where that is asked for.
    let odd = crontab(group, "  colour: red\n");
    let apply = |line: &str, yaml: &str| {
        let args: Vec<&str> = line.split_whitespace().collect();
        command::run_with(&mut cluster.kubectl_command(&args), yaml, command::PATIENCE)
    };
    let said = apply(&format!("apply -n {ns} -f -"), &odd)?;
    ensure!(said.code != 0 && said.all().contains("unknown field \"spec.colour\""), "{}", said.all());
    let said = apply(&format!("apply -n {ns} --validate=ignore -f -"), &odd)?;
    ensure!(said.code == 0, "{}", said.all());
    cluster.expect(&object, "{.spec.colour}{.spec.image}", "busybox")?;
    let said = apply(&format!("apply -n {ns} -f -"), &crontab(group, "  replicas: 11\n"))?;
    ensure!(said.code != 0 && said.all().contains("should be less than or equal to 10"), "{}", said.all());

    // Whoever made the object owns its defaults, too.
    let server_side = format!("apply -n {ns} --server-side -f - --field-manager");
    let said = apply(&format!("{server_side} other --force-conflicts"), &crontab(group, "  image: own\n"))?;
    ensure!(said.code == 0, "{}", said.all());
    cluster.expect(&object, "{.spec.image}", "own")?;
    let said = apply(&format!("{server_side} third"), &crontab(group, "  image: his\n"))?;
    ensure!(said.code != 0 && said.all().contains("conflict with \"other\""), "{}", said.all());
    Ok(())
}

fn helm(cluster: &Cluster) -> Result<()> {
    let (ns, group) = (cluster.namespace("helmcrd")?, "helm.example.com");
    let chart = cluster.scratch().join("chart-with-crds");
    fs::create_dir_all(chart.join("templates"))?;
    fs::create_dir_all(chart.join("crds"))?;
    fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: tables\nversion: 0.1.0\n")?;
    fs::write(chart.join("values.yaml"), "replicas: 1\n")?;
    fs::write(chart.join("crds/crontabs.yaml"), definition(group))?;
    fs::write(chart.join("templates/all.yaml"), crontab(group, "  replicas: {{ .Values.replicas }}\n"))?;
    let helm = |line: &str| command::succeed(&mut cluster.helm_command(line));
    helm(&format!("install tables {} -n {ns} --wait --timeout 60s", chart.display()))?;
    let object = format!("crontabs.{group}/mine -n {ns}");
    cluster.expect(&object, "{.spec.replicas} {.spec.image}", "1 busybox")?;
    helm(&format!("upgrade tables {} -n {ns} --set replicas=3 --wait --timeout 60s", chart.display()))?;
    cluster.expect(&object, "{.spec.replicas}", "3")?;
    helm(&format!("uninstall tables -n {ns} --wait --timeout 60s"))?;
    let left = cluster.kubectl(&format!("get crontabs.{group} -n {ns} -o name"))?;
    ensure!(left.is_empty(), "{left}");
    // Definitions outlive the chart that brought them.
    cluster.kubectl(&format!("delete crd crontabs.{group} --timeout=30s"))?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}
