//! `kubectl apply` of many things at once: what a file no longer has is pruned; what was applied is remembered, shown,
//! and put in the place of what is there.

use anyhow::{Result, ensure};
use knarr_e2e::Cluster;

use super::Kubectl;
use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![
        ("kubectl_apply_prune", prune),
        ("kubectl_apply_prune_by_applyset", applyset),
        ("kubectl_apply_conflicts_are_explained", conflicts),
        ("kubectl_replace_and_last_applied", replace),
    ]
}

fn maps(names: &[&str]) -> String {
    let map = |name: &&str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{app: prune}}}}\ndata: {{a: b}}\n---\n"
        )
    };
    names.iter().map(map).collect()
}

fn prune(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "prune")?;
    let apply = |names: &[&str], more: &str, wanted: &str| {
        let said = kubectl.feed(&format!("apply -f - --prune {more}"), &maps(names))?;
        ensure!(said == wanted, "{more}:\n{said}\nwanted:\n{wanted}");
        Ok(())
    };
    let only_maps = "-l app=prune --prune-allowlist=core/v1/ConfigMap";
    apply(&["a", "b"], only_maps, "configmap/a created\nconfigmap/b created\n")?;
    kubectl.feed("apply -f -", "{apiVersion: v1, kind: Secret, metadata: {name: s, labels: {app: prune}}}")?;
    // Neither of another label nor made by other means than apply.
    kubectl.feed("apply -f -", "{apiVersion: v1, kind: ConfigMap, metadata: {name: other, labels: {app: other}}}")?;
    kubectl.feed("create -f -", "{apiVersion: v1, kind: ConfigMap, metadata: {name: made, labels: {app: prune}}}")?;
    let dry = "configmap/a unchanged (server dry run)\nconfigmap/c created (server dry run)\nconfigmap/b pruned (server dry run)\n";
    apply(&["a", "c"], &format!("{only_maps} --dry-run=server"), dry)?;
    apply(&["a", "c"], only_maps, "configmap/a unchanged\nconfigmap/c created\nconfigmap/b pruned\n")?;
    apply(&["a"], "-l app=prune", "configmap/a unchanged\nconfigmap/c pruned\nsecret/s pruned\n")?;
    let left = kubectl.ask("get configmaps,secrets -l app -o name")?;
    ensure!(left == "configmap/a\nconfigmap/made\nconfigmap/other\n", "{left}");
    apply(&["a"], "--all --prune-allowlist=core/v1/ConfigMap", "configmap/a unchanged\nconfigmap/other pruned\n")?;
    let said = kubectl.run("apply -f - --prune", &maps(&["a"]))?;
    let why = "error: all resources selected for prune without explicitly passing --all. To prune all resources, pass the --all flag. If you did not mean to prune all resources, specify a label selector\n";
    ensure!(said.code == 1 && said.stderr == why, "{}", said.all());
    kubectl.end()
}

fn applyset(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "applyset")?;
    let apply = |names: &[&str], wanted: &str| {
        let mut command = kubectl.command("apply -f - --prune --applyset=set");
        command.env("KUBECTL_APPLYSET", "true");
        let said = knarr_e2e::command::run_with(&mut command, &maps(names), knarr_e2e::command::PATIENCE)?;
        ensure!(said.code == 0 && said.stdout == wanted, "{}\nwanted:\n{wanted}", said.all());
        Ok(())
    };
    apply(&["a", "b"], "configmap/a created\nconfigmap/b created\n")?;
    let id = kubectl.ask(r"get secret set -o jsonpath={.metadata.labels.applyset\.kubernetes\.io/id}")?;
    ensure!(id.starts_with("applyset-") && id.ends_with("-v1"), "{id}");
    let members = format!("get configmaps -l applyset.kubernetes.io/part-of={id} -o name");
    ensure!(kubectl.ask(&members)? == "configmap/a\nconfigmap/b\n", "{}", kubectl.ask(&members)?);
    apply(&["a", "c"], "configmap/a unchanged\nconfigmap/c created\nconfigmap/b pruned\n")?;
    ensure!(kubectl.ask(&members)? == "configmap/a\nconfigmap/c\n", "{}", kubectl.ask(&members)?);
    kubectl.end()
}

fn conflicts(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "conflicts")?;
    let apply = |manager: &str, data: &str, more: &str| {
        let yaml = format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c}}, data: {{{data}}}}}");
        kubectl.run(format!("apply --server-side -f - --field-manager={manager} {more}").trim_end(), &yaml)
    };
    let advice = "Please review the fields above--they currently have other managers. Here
are the ways you can resolve this warning:
* If you intend to manage all of these fields, please re-run the apply
  command with the `--force-conflicts` flag.
* If you do not intend to manage all of the fields, please edit your
  manifest to remove references to the fields that should keep their
  current managers.
* You may co-own fields by updating your manifest to match the existing
  value; in this case, you'll become the manager if the other manager(s)
  stop managing the field (remove it from their configuration).
See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts
";
    let applied = "configmap/c serverside-applied\n";
    let rows = [
        ("one", "a: b, c: d", "", applied.to_owned()),
        ("two", "e: f, a: b", "", applied.to_owned()),
        ("three", "c: x", "", format!("error: Apply failed with 1 conflict: conflict with \"one\": .data.c\n{advice}")),
        (
            "three",
            "a: x, c: x",
            "",
            format!(
                "error: Apply failed with 3 conflicts: conflicts with \"one\":\n- .data.a\n- .data.c\nconflicts with \
                 \"two\":\n- .data.a\n{advice}"
            ),
        ),
        ("three", "a: x, c: x", "--force-conflicts", applied.to_owned()),
        ("one", "a: x", "", applied.to_owned()),
        ("two", "e: f", "--dry-run=server", "configmap/c serverside-applied (server dry run)\n".to_owned()),
    ];
    for (manager, data, more, wanted) in rows {
        let said = apply(manager, data, more)?;
        ensure!(said.all() == wanted, "{manager} applies {data}:\n{}\nwanted:\n{wanted}", said.all());
    }
    kubectl.say(&[("get configmap c -o jsonpath={.data}", r#"{"a":"x","c":"x","e":"f"}"#)])?;
    // Who no longer applies a field, which nobody else has, takes it away.
    ensure!(apply("two", "{}", "")?.code != 0, "data was no object");
    ensure!(apply("two", "", "")?.code == 0, "nothing is left to apply");
    kubectl.say(&[("get configmap c -o jsonpath={.data}", r#"{"a":"x","c":"x"}"#)])?;
    kubectl.end()
}

fn replace(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "replace")?;
    let yaml =
        |value: &str| format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c}}, data: {{a: {value}}}}}");
    kubectl.feed("apply -f -", &yaml("b"))?;
    let uid = kubectl.ask("get configmap c -o jsonpath={.metadata.uid}")?;
    for (line, value, wanted) in [
        ("replace -f -", "c", "configmap/c replaced\n".to_owned()),
        ("apply -f -", "d", "configmap/c configured\n".to_owned()),
        ("apply set-last-applied -f -", "e", "configmap/c configured\n".to_owned()),
    ] {
        let said = kubectl.feed(line, &yaml(value))?;
        ensure!(said == wanted, "{line}: {said}");
    }
    let last =
        format!("apiVersion: v1\ndata:\n  a: e\nkind: ConfigMap\nmetadata:\n  name: c\n  namespace: {}\n", kubectl.ns);
    let shown = kubectl.ask("apply view-last-applied configmap c")?;
    ensure!(shown.replace("  annotations: {}\n", "") == last, "{shown}");
    kubectl.say(&[("get configmap c -o jsonpath={.data.a}{.metadata.uid}", &format!("d{uid}"))])?;
    let said = kubectl.feed("replace --force -f -", &yaml("f"))?;
    let wanted = format!("configmap \"c\" deleted from {} namespace\nconfigmap/c replaced\n", kubectl.ns);
    ensure!(said == wanted, "{said}");
    let now = kubectl.ask("get configmap c -o jsonpath={.metadata.uid}")?;
    ensure!(now != uid, "replaced by force, it is another object");
    let said = kubectl.run("replace -f -", "{apiVersion: v1, kind: ConfigMap, metadata: {name: none}}")?;
    let wanted = "Error from server (NotFound): error when replacing \"STDIN\": configmaps \"none\" not found\n";
    ensure!(said.code == 1 && said.stderr == wanted, "{}", said.all());
    let stale = "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, resourceVersion: '1'}}";
    let said = kubectl.run("replace -f -", stale)?;
    let wanted = "Error from server (Conflict): error when replacing \"STDIN\": Operation cannot be fulfilled on configmaps \"c\": \
                  the object has been modified; please apply your changes to the latest version and try again\n";
    ensure!(said.code == 1 && said.stderr == wanted, "{}", said.all());
    kubectl.end()
}
