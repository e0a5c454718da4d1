//! ConfigMaps and Secrets as environment, arguments and files.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use knarr_e2e::{Clients, Cluster, eventually_within, image::BUSYBOX};

use crate::{OnNodes, Shared};

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![
        ("configuration_reaches_a_pod", reaches),
        ("volumes_are_for_the_pods_user", volumes),
        ("a_pod_has_a_token", token),
    ]
}

pub fn on_nodes() -> Vec<(&'static str, OnNodes)> {
    vec![("mounted_configuration_follows", follows)]
}

fn reaches(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("config")?;
    cluster.kubectl(&format!("create configmap settings -n {ns} --from-literal=colour=blue --from-literal=size=4"))?;
    cluster.kubectl(&format!(
        "create secret generic login -n {ns} --from-literal=user=me --from-literal=password=s3cret"
    ))?;
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {{tier: t}}}}\nspec:\n  restartPolicy: Never\n  volumes:\n    \
         - {{name: settings, configMap: {{name: settings}}}}\n    - {{name: login, secret: {{secretName: login, defaultMode: 256}}}}\n    \
         - {{name: info, downwardAPI: {{items: [{{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}]}}}}\n  containers:\n    - name: c\n      image: {BUSYBOX}\n      \
         env:\n        - {{name: COLOUR, valueFrom: {{configMapKeyRef: {{name: settings, key: colour}}}}}}\n        \
         - {{name: PASSWORD, valueFrom: {{secretKeyRef: {{name: login, key: password}}}}}}\n        \
         - {{name: POD_IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}\n        \
         - {{name: BOTH, value: $(COLOUR)-$(PASSWORD)}}\n        - {{name: CPU, valueFrom: {{resourceFieldRef: {{resource: limits.cpu}}}}}}\n      \
         envFrom: [{{prefix: S_, configMapRef: {{name: settings}}}}]\n      resources: {{limits: {{cpu: '2'}}, requests: {{cpu: 10m}}}}\n      \
         volumeMounts: [{{name: settings, mountPath: /settings}}, {{name: login, mountPath: /login}}, {{name: info, mountPath: /info}}]\n      \
         command: [sh, -c]\n      args: ['echo $(COLOUR) $PASSWORD $BOTH $S_size $CPU; cat /settings/colour; echo; cat /login/user; echo; stat -L -c %a /login/user; cat /info/labels; echo; test -n \"$POD_IP\" && echo has-ip']\n"
    );
    cluster.apply(&ns, &yaml)?;
    cluster.expect(&format!("pod/p -n {ns}"), "{.status.phase}", "Succeeded")?;
    let log = cluster.kubectl(&format!("logs p -n {ns}"))?;
    let lines: Vec<&str> = log.lines().collect();
    ensure!(lines == ["blue s3cret blue-s3cret 4 2", "blue", "me", "400", "tier=\"t\"", "has-ip"], "{log}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn follows(cluster: &Clients) -> Result<()> {
    let ns = cluster.namespace("follow")?;
    cluster.kubectl(&format!("create configmap settings -n {ns} --from-literal=colour=blue"))?;
    cluster.kubectl(&format!("create secret generic login -n {ns} --from-literal=colour=blue"))?;
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  volumes:\n    - {{name: settings, configMap: {{name: settings}}}}\n    \
         - {{name: login, secret: {{secretName: login}}}}\n  containers:\n    \
         - {{name: c, image: {BUSYBOX}, command: [sleep, '1000'], volumeMounts: [{{name: settings, mountPath: /settings}}, \
         {{name: login, mountPath: /login}}, {{name: settings, mountPath: /fixed, subPath: colour}}]}}\n"
    );
    cluster.apply(&ns, &yaml)?;
    cluster.kubectl(&format!("wait pod/p -n {ns} --for=condition=Ready --timeout=60s"))?;
    cluster.kubectl_args(&["patch", "configmap", "settings", "-n", &ns, "-p", r#"{"data":{"colour":"green"}}"#])?;
    cluster.kubectl_args(&["patch", "secret", "login", "-n", &ns, "-p", r#"{"stringData":{"colour":"green"}}"#])?;
    let begun = std::time::Instant::now();
    eventually_within(Duration::from_secs(2), "the files follow", || {
        let text = cluster.kubectl(&format!("exec p -n {ns} -- cat /settings/colour /login/colour"))?;
        if text == "greengreen" { Ok(()) } else { bail!("{text}") }
    })?;
    println!("mounted files followed within {} ms", begun.elapsed().as_millis());
    let fixed = cluster.kubectl(&format!("exec p -n {ns} -- cat /fixed"))?;
    ensure!(fixed == "blue", "a subPath is a file of its own and stays: {fixed}");
    cluster.kubectl_args(&["patch", "configmap", "settings", "-n", &ns, "-p", r#"{"immutable":true}"#])?;
    let change = ["patch", "configmap", "settings", "-n", &ns, "-p", r#"{"data":{"colour":"red"}}"#];
    let said = knarr_e2e::command::run(&mut cluster.kubectl_command(&change))?;
    let wanted = "data: Forbidden: field is immutable when `immutable` is set";
    ensure!(said.code != 0 && said.all().contains(wanted), "{}", said.all());
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

/// A pod that is not root's, with a part of a volume, an image and what the node writes.
fn volumes(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("volumes")?;
    cluster.kubectl(&format!("create configmap settings -n {ns} --from-literal=colour=blue"))?;
    let script = "echo mine >/v/f; cat /v/f; stat -c %g /v/f; ls /i/busybox; /i/busybox true 2>/dev/null || echo no programs; \
                  touch /m/x 2>/dev/null || echo read-only; stat -L -c %a-%g /m/colour";
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n  \
         securityContext: {{runAsUser: 1000, fsGroup: 3000}}\n  volumes:\n    - {{name: v, emptyDir: {{}}}}\n    \
         - {{name: i, image: {{reference: {BUSYBOX}, pullPolicy: IfNotPresent}}}}\n    \
         - {{name: m, configMap: {{name: settings}}}}\n  containers:\n    - name: c\n      image: {BUSYBOX}\n      \
         env: [{{name: NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]\n      \
         volumeMounts: [{{name: v, mountPath: /v, subPathExpr: $(NAME)/deep}}, {{name: i, mountPath: /i, subPath: bin}}, \
         {{name: m, mountPath: /m}}]\n      command: [sh, -c, '{script}']\n"
    );
    cluster.apply(&ns, &yaml)?;
    cluster.expect(&format!("pod/p -n {ns}"), "{.status.phase}", "Succeeded")?;
    let log = cluster.kubectl(&format!("logs p -n {ns}"))?;
    let lines: Vec<&str> = log.lines().collect();
    ensure!(lines == ["mine", "3000", "/i/busybox", "no programs", "read-only", "644-3000"], "{log}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

/// A container can ask the API server who it is, with what is mounted into it.
fn token(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("token")?;
    cluster.kubectl_args(&["run", "p", "-n", &ns, "--image", BUSYBOX, "--", "sleep", "1000"])?;
    cluster.kubectl(&format!("wait pod/p -n {ns} --for=condition=Ready --timeout=60s"))?;
    let files = cluster.kubectl(&format!("exec p -n {ns} -- ls /var/run/secrets/kubernetes.io/serviceaccount"))?;
    ensure!(files.split_whitespace().collect::<Vec<_>>() == ["ca.crt", "namespace", "token"], "{files}");
    let token =
        cluster.kubectl(&format!("exec p -n {ns} -- cat /var/run/secrets/kubernetes.io/serviceaccount/token"))?;
    let server = cluster.kubectl("config view --raw --minify -o jsonpath={.clusters[0].cluster.server}")?;
    let who = |token: &str| {
        let mut kubectl = cluster.kubectl_command(&[
            "auth",
            "whoami",
            "--kubeconfig=/dev/null",
            "--insecure-skip-tls-verify",
            "-o=jsonpath={.status.userInfo.username}",
        ]);
        kubectl.args(["--server", &server, "--token", token]);
        knarr_e2e::command::run(&mut kubectl)
    };
    let said = who(&token)?;
    ensure!(said.stdout == format!("system:serviceaccount:{ns}:default"), "{}", said.all());
    let said = who(&format!("{}x", &token[..token.len() - 1]))?;
    ensure!(said.code != 0 && said.all().contains("Unauthorized"), "{}", said.all());
    let said = knarr_e2e::command::run(
        cluster
            .kubectl_command(&["get", "secrets", "-n", &ns, "--kubeconfig=/dev/null", "--insecure-skip-tls-verify"])
            .args(["--server", &server, "--token", &token]),
    )?;
    let wanted = format!(
        "User \"system:serviceaccount:{ns}:default\" cannot list resource \"secrets\" in API group \"\" in the namespace \"{ns}\""
    );
    ensure!(said.all().contains(&wanted), "{}", said.all());
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}
