//! `kubectl label` and `kubectl annotate`.

use anyhow::{Result, ensure};
use knarr_e2e::Cluster;

use super::Kubectl;
use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("kubectl_label_and_annotate", labels)]
}

fn labels(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "labels")?;
    kubectl.ask("create configmap a")?;
    kubectl.ask("create configmap b")?;
    kubectl.say(&[
        ("label configmap a x=y", "configmap/a labeled"),
        ("label configmap a --list", "x=y"),
        ("label configmap a x=z --overwrite", "configmap/a labeled"),
        ("label configmap a x=z --overwrite", "configmap/a not labeled"),
        ("label configmap a none-", "label \"none\" not found.\nconfigmap/a not labeled"),
        ("label configmap a x=w --overwrite --dry-run=server", "configmap/a labeled (server dry run)"),
        ("get configmap a -o jsonpath={.metadata.labels}", r#"{"x":"z"}"#),
        ("label configmap -l x=z y=1", "configmap/a labeled"),
        ("label configmap a b both=1", "configmap/a labeled\nconfigmap/b labeled"),
        ("label configmap --field-selector=metadata.name=b own=1", "configmap/b labeled"),
        ("get configmap -l 'both,own!=1' -o name", "configmap/a"),
        ("get configmap -l 'both in (1,2),own notin (2)' -o name", "configmap/a\nconfigmap/b"),
        ("label configmap b both- own-", "configmap/b unlabeled"),
        ("annotate configmap a 'x=a b'", "configmap/a annotated"),
        ("annotate configmap a --list", "x=a b"),
        ("annotate configmap a x=c --overwrite", "configmap/a annotated"),
        ("annotate configmap a x-", "configmap/a annotated"),
        ("get configmap a -o jsonpath={.metadata.annotations}", ""),
        ("get configmap b -o jsonpath={.metadata.labels}", ""),
    ])?;
    kubectl.ask("label configmap a x=z --overwrite")?;
    kubectl.ask("annotate configmap a x=z")?;
    kubectl.refuse(&[
        ("label configmap a x=other", "error: 'x' already has a value (z), and --overwrite is false"),
        (
            "annotate configmap a x=other",
            "error: --overwrite is false but found the following declared annotation(s): 'x' already has a value (z)",
        ),
        (
            "label configmap a q=1 --resource-version=1",
            "Error from server (Conflict): Operation cannot be fulfilled on configmaps \"a\": the object has been \
             modified; please apply your changes to the latest version and try again",
        ),
        ("label configmap none q=1", "Error from server (NotFound): configmaps \"none\" not found"),
    ])?;
    let said = kubectl.run(r#"patch configmap a -p '{"metadata":{"labels":{"x":"a b"}}}'"#, "")?;
    let wanted = "The ConfigMap \"a\" is invalid: metadata.labels: Invalid value: \"a b\": a valid label must be an empty \
                  string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                  alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
                  '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')\n";
    ensure!(said.code == 1 && said.stderr == wanted, "{}", said.all());
    kubectl.end()
}
