//! `kubectl get --watch` in its forms.

use std::fs;

use anyhow::{Result, ensure};
use knarr_e2e::{Cluster, command::Running, eventually};

use super::{Kubectl, is_table};
use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("kubectl_get_watch_in_its_forms", forms)]
}

/// What each form shows of a ConfigMap that is made, changed and deleted.
const FORMS: [(&str, &[&str]); 5] = [
    (
        "get configmaps --watch --output-watch-events --field-selector=metadata.name!=kube-root-ca.crt",
        &["EVENT NAME DATA AGE", "ADDED new 1 *", "MODIFIED new 2 *", "DELETED new 2 *"],
    ),
    ("get configmaps --watch-only", &["NAME DATA AGE", "new 1 *", "new 2 *", "new 2 *"]),
    (
        "get configmaps --watch-only --no-headers -A --output-watch-events -l kind=watched",
        &["ADDED NS new 1 *", "MODIFIED NS new 2 *", "DELETED NS new 2 *"],
    ),
    ("get configmaps -w --watch-only -o name", &["configmap/new", "configmap/new", "configmap/new"]),
    ("get configmaps --watch-only -o 'jsonpath={.metadata.name} {.data.a}{\"\\n\"}'", &["new b", "new c", "new c"]),
];

fn forms(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "watching")?;
    let labelled = |name: &str, more: &str| {
        let yaml = format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, labels: {{kind: watched}}}}, data: {{{more}}}}}"
        );
        kubectl.feed("create -f -", &yaml)
    };
    labelled("old", "a: b")?;
    let files: Vec<String> =
        (0..FORMS.len()).map(|at| cluster.scratch().join(format!("watch-{at}")).display().to_string()).collect();
    let _watching: Vec<Running> =
        FORMS.iter().zip(&files).map(|((line, _), file)| kubectl.start_into(file, line)).collect::<Result<_>>()?;
    // Who watches only sees what happens from then on: the old one changes until all have seen it.
    let mut round = 0;
    eventually("all watch", || {
        round += 1;
        kubectl.ask(&format!("annotate configmap old round={round} --overwrite"))?;
        for file in &files {
            ensure!(fs::read_to_string(file)?.contains("old"), "{file} shows nothing");
        }
        Ok(())
    })?;
    labelled("new", "a: b")?;
    kubectl.ask(r#"patch configmap new -p '{"data":{"a":"c","d":"e"}}'"#)?;
    kubectl.ask("delete configmap new")?;
    for ((line, wanted), file) in FORMS.iter().zip(&files) {
        let wanted: Vec<String> = wanted.iter().map(|line| line.replace("NS", &kubectl.ns)).collect();
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        eventually(line, || {
            let text = fs::read_to_string(file)?;
            let lines = text.lines().filter(|line| !line.contains("old")).map(|line| format!("{line}\n"));
            ensure!(is_table(&lines.collect::<String>(), &wanted), "kubectl {line}:\n{text}");
            Ok(())
        })?;
    }
    kubectl.refuse(&[("get configmaps,secrets --watch", "error: you may only specify a single resource type")])?;
    kubectl.end()
}
