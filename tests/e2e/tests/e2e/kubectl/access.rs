//! `kubectl auth`: who one is, what one may do, and roles that are to be as a file says.

use anyhow::{Result, ensure};
use knarr_e2e::Cluster;

use super::Kubectl;
use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("kubectl_auth_can_i", can_i), ("kubectl_auth_can_i_list", list), ("kubectl_auth_reconcile", reconcile)]
}

fn can_i(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "cani")?;
    kubectl.say(&[
        (
            "auth whoami",
            "ATTRIBUTE   VALUE\nUsername    kubernetes-admin\nGroups      [system:masters system:authenticated]",
        ),
        (
            "auth whoami --as bob --as-group crew --as-uid 7 --as-user-extra ship=knarr",
            "ATTRIBUTE     VALUE\nUsername      bob\nUID           7\nGroups        [crew system:authenticated]\n\
             Extra: ship   [knarr]",
        ),
        ("auth can-i create pods", "yes"),
        ("auth can-i * *", "yes"),
        ("auth can-i get /logs/", "yes"),
        ("auth can-i get /version --as bob", "yes"),
        (
            "create role reader --verb=get,list --resource=pods,pods/log",
            "role.rbac.authorization.k8s.io/reader created",
        ),
        ("create rolebinding reader --role=reader --user=bob", "rolebinding.rbac.authorization.k8s.io/reader created"),
        (
            "create role one --verb=get --resource=secrets --resource-name=s",
            "role.rbac.authorization.k8s.io/one created",
        ),
        ("create rolebinding one --role=one --user=bob", "rolebinding.rbac.authorization.k8s.io/one created"),
        ("auth can-i list pods --as bob", "yes"),
        ("auth can-i get pods --subresource=log --as bob", "yes"),
        ("auth can-i get secrets/s --as bob", "yes"),
    ])?;
    kubectl.refuse(&[
        ("auth can-i create pods --as bob", "no"),
        ("auth can-i list pods --as bob -A", "no"),
        ("auth can-i list pods --as eve", "no"),
        ("auth can-i list pods --as eve --quiet", ""),
        ("auth can-i get pods --subresource=exec --as bob", "no"),
        ("auth can-i get secrets --as bob", "no"),
        ("auth can-i get secrets/t --as bob", "no"),
        ("auth can-i get /metrics --as bob", "no"),
        (
            "get secrets --as bob",
            "Error from server (Forbidden): secrets is forbidden: User \"bob\" cannot list resource \"secrets\" in API \
             group \"\" in the namespace \"NS\"",
        ),
    ])?;
    kubectl.end()
}

fn list(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "canilist")?;
    kubectl.ask("create role sailor --verb=get,list,watch --resource=pods,deployments.apps")?;
    kubectl.ask("create role keeper --verb=get --resource=secrets --resource-name=s --resource-name=t")?;
    kubectl.ask("create clusterrole canilist --verb=get --non-resource-url=/logs/*")?;
    kubectl.ask("create rolebinding sailor --role=sailor --user=bob")?;
    kubectl.ask("create rolebinding keeper --role=keeper --user=bob")?;
    kubectl.ask("create clusterrolebinding canilist --clusterrole=canilist --user=bob")?;
    let own: [&str; 10] = [
        "Resources Non-Resource URLs Resource Names Verbs",
        "selfsubjectreviews.authentication.k8s.io [] [] [create]",
        "selfsubjectaccessreviews.authorization.k8s.io [] [] [create]",
        "selfsubjectrulesreviews.authorization.k8s.io [] [] [create]",
        "pods [] [] [get list watch]",
        "deployments.apps [] [] [get list watch]",
        "secrets [] [s] [get]",
        "secrets [] [t] [get]",
        "[/api/*] [] [get]",
        "[/logs/*] [] [get]",
    ];
    let everybodys = ["/api", "/apis/*", "/apis", "/healthz", "/livez", "/openapi/*", "/openapi", "/readyz"];
    let everybodys = everybodys.iter().chain(&["/version/", "/version"]).map(|path| format!("[{path}] [] [get]"));
    let mut wanted: Vec<String> = own.iter().map(|line| (*line).to_owned()).chain(everybodys).collect();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = kubectl.run("auth can-i --list --as bob", "")?;
    let mut found: Vec<String> = said.stdout.lines().map(words).collect();
    wanted.sort();
    found.sort();
    // Two roles say the same of some paths, and kubectl shows both.
    found.dedup();
    ensure!(found == wanted && said.stderr.is_empty(), "{}\nwanted:\n{}", said.all(), wanted.join("\n"));
    let said = kubectl.run("auth can-i --list --as system:node:node-1 --as-group system:nodes", "")?;
    let warning = "Warning: the list may be incomplete: node authorizer does not support user rule resolution\n";
    ensure!(said.code == 0 && said.stderr == warning, "{}", said.stderr);
    let all = kubectl.ask("auth can-i --list --no-headers")?;
    let mut lines = all.lines().map(words);
    ensure!(lines.any(|line| line == "*.* [] [] [*]") && lines.any(|line| line == "[*] [] [*]"), "{all}");
    kubectl.ask("delete clusterrole,clusterrolebinding canilist")?;
    kubectl.end()
}

const ROLES: &str = "apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: NS}
rules: [{apiGroups: [\"\"], resources: [secrets], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: NS}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: User, name: eve, apiGroup: rbac.authorization.k8s.io}]
";

fn reconcile(cluster: &Cluster) -> Result<()> {
    let kubectl = Kubectl::new(cluster, "reconcile")?;
    kubectl.ask("create role reader --verb=list --resource=pods")?;
    kubectl.ask("create rolebinding reader --role=reader --user=bob")?;
    let done =
        "role.rbac.authorization.k8s.io/reader reconciled\nrolebinding.rbac.authorization.k8s.io/reader reconciled\n";
    let added = "\treconciliation required update
\tmissing rules added:
\t\t{Verbs:[get] APIGroups:[] Resources:[secrets] ResourceNames:[] NonResourceURLs:[]}
\treconciliation required update
\tmissing subjects added:
\t\t{Kind:User APIGroup:rbac.authorization.k8s.io Name:eve Namespace:}
";
    let removed = "\treconciliation required update
\textra rules removed:
\t\t{Verbs:[list] APIGroups:[] Resources:[pods] ResourceNames:[] NonResourceURLs:[]}
\treconciliation required update
\textra subjects removed:
\t\t{Kind:User APIGroup:rbac.authorization.k8s.io Name:bob Namespace:}
";
    let dry = done.replace("reconciled", "reconciled (dry run)");
    for (more, stdout, stderr) in [
        ("--dry-run=client", dry.as_str(), added),
        ("", done, added),
        ("--remove-extra-permissions --remove-extra-subjects", done, removed),
        ("", done, ""),
    ] {
        let said = kubectl.run(format!("auth reconcile -f - {more}").trim_end(), &ROLES.replace("NS", &kubectl.ns))?;
        ensure!(said.stdout == stdout && said.stderr == stderr, "{more}:\n{}\nwanted:\n{stdout}{stderr}", said.all());
    }
    kubectl.say(&[
        ("get role reader -o jsonpath={.rules}", r#"[{"apiGroups":[""],"resources":["secrets"],"verbs":["get"]}]"#),
        (
            "get rolebinding reader -o jsonpath={.subjects}",
            r#"[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"eve"}]"#,
        ),
    ])?;
    kubectl.end()
}
