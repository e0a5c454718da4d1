//! Volumes that outlive pods: made by people, and made on demand.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use knarr_e2e::{Clients, Cluster, eventually, image::BUSYBOX};

use crate::{Alone, OnNodes, Shared};

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![
        ("a_host_path_volume_is_claimed", a_host_path_volume_is_claimed),
        ("a_retained_volume_stays_and_an_immediate_one_needs_no_pod", a_retained_volume_stays),
        ("what_cannot_be_provided_is_said", what_cannot_be_provided_is_said),
    ]
}

pub fn on_nodes() -> Vec<(&'static str, OnNodes)> {
    vec![
        ("a_claim_gets_a_volume_that_outlives_pods", a_claim_gets_a_volume_that_outlives_pods),
        ("a_claim_grows", a_claim_grows),
        ("an_ephemeral_volume_goes_with_its_pod", an_ephemeral_volume_goes_with_its_pod),
    ]
}

pub fn alone() -> Vec<(&'static str, Alone)> {
    vec![("volumes_and_secrets_survive_a_kill", volumes_and_secrets_survive_a_kill)]
}

/// A claim of 1Gi; `more` goes into its spec.
fn claim(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec:\n  accessModes: [ReadWriteOnce]\n  \
         resources: {{requests: {{storage: 1Gi}}}}\n{more}---\n"
    )
}

/// A pod that has a claim at /data, runs a command and stays.
fn user(name: &str, claim: &str, command: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         volumes: [{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}]\n  containers:\n    \
         - {{name: c, image: {BUSYBOX}, command: [sh, -c, '{command} && exec sleep 1000'], volumeMounts: [{{name: data, mountPath: /data}}]}}\n---\n"
    )
}

fn ready(cluster: &Clients, ns: &str, pod: &str) -> Result<()> {
    cluster.kubectl(&format!("wait pod/{pod} -n {ns} --for=condition=Ready --timeout=30s")).map(drop)
}

fn phase(cluster: &Clients, what: &str, wanted: &str) -> Result<()> {
    cluster.expect(what, "{.status.phase}", wanted)
}

fn is_gone(cluster: &Clients, what: &str) -> Result<()> {
    eventually(&format!("{what} is gone"), || {
        let said = cluster.kubectl(&format!("get {what} --ignore-not-found -o name"))?;
        if said.is_empty() { Ok(()) } else { bail!("{said}") }
    })
}

fn volume_of(cluster: &Clients, ns: &str, claim: &str) -> Result<String> {
    phase(cluster, &format!("pvc/{claim} -n {ns}"), "Bound")?;
    let found = cluster.get(&format!("pvc/{claim} -n {ns}"))?;
    found["spec"]["volumeName"].as_str().map(str::to_owned).context("the claim names no volume")
}

fn a_host_path_volume_is_claimed(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("static")?;
    let dir = cluster.scratch().join("static");
    fs::create_dir(&dir)?;
    fs::write(dir.join("greeting"), "hello\n")?;
    let volume = |name: &str, size: &str| {
        format!(
            "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {name}}}\nspec:\n  capacity: {{storage: {size}}}\n  \
             accessModes: [ReadWriteOnce]\n  storageClassName: manual\n  hostPath: {{path: {}}}\n---\n",
            dir.display()
        )
    };
    let manual = claim("data", "  storageClassName: manual\n");
    cluster.apply(&ns, &(volume("static-large", "9Gi") + &volume("static-small", "2Gi")))?;
    for name in ["pv/static-large", "pv/static-small"] {
        phase(cluster, name, "Available")?;
    }
    cluster.apply(&ns, &(manual + &user("p", "data", "cat /data/greeting")))?;
    ready(cluster, &ns, "p")?;
    ensure!(volume_of(cluster, &ns, "data")? == "static-small", "the smallest that is large enough");
    ensure!(cluster.kubectl(&format!("logs p -n {ns}"))? == "hello\n");
    let table = cluster.kubectl(&format!("get pvc -n {ns} --no-headers"))?;
    let columns: Vec<&str> = table.split_whitespace().collect();
    ensure!(columns[..6] == ["data", "Bound", "static-small", "2Gi", "RWO", "manual"], "{table}");
    phase(cluster, "pv/static-large", "Available")?;
    // In use, it stays until its pod is gone, and then its volume waits for its administrator.
    cluster.kubectl(&format!("delete pvc data -n {ns} --wait=false"))?;
    cluster.kubectl("delete pv static-small --wait=false")?;
    let found = cluster.get(&format!("pvc/data -n {ns}"))?;
    ensure!(found["metadata"]["deletionTimestamp"].is_string() && found["status"]["phase"] == "Bound", "{found}");
    ensure!(cluster.kubectl("get pv static-small --no-headers")?.contains("Terminating"));
    cluster.kubectl(&format!("delete pod p -n {ns}"))?;
    is_gone(cluster, &format!("pvc/data -n {ns}"))?;
    is_gone(cluster, "pv/static-small")?;
    ensure!(fs::read_to_string(dir.join("greeting"))? == "hello\n");
    cluster.kubectl("delete pv static-large")?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn a_claim_gets_a_volume_that_outlives_pods(cluster: &Clients) -> Result<()> {
    let ns = cluster.namespace("dynamic")?;
    cluster.apply(&ns, &claim("data", ""))?;
    let waits =
        format!("get events -n {ns} --field-selector=involvedObject.name=data,reason=WaitForFirstConsumer -o name");
    eventually("the claim waits for a pod", || {
        if cluster.kubectl(&waits)?.is_empty() { bail!("no such event") } else { Ok(()) }
    })?;
    phase(cluster, &format!("pvc/data -n {ns}"), "Pending")?;
    cluster.apply(&ns, &user("first", "data", "id > /data/who && echo kept > /data/file"))?;
    ready(cluster, &ns, "first")?;
    let volume = volume_of(cluster, &ns, "data")?;
    let object = cluster.get(&format!("pv/{volume}"))?;
    let path = object["spec"]["local"]["path"].as_str().context("the volume has no path")?.to_owned();
    ensure!(path.contains("/data/volumes/"), "{path}");
    ensure!(object["spec"]["persistentVolumeReclaimPolicy"] == "Delete", "{object}");
    let described = cluster.kubectl(&format!("describe pvc data -n {ns}"))?;
    ensure!(described.contains("ProvisioningSucceeded") && described.contains("Used By:       first"), "{described}");
    cluster.kubectl(&format!("delete pod first -n {ns}"))?;
    let yaml = user("second", "data", "cat /data/file")
        .replace("spec:\n", "spec:\n  securityContext: {fsGroup: 2000, runAsUser: 1000}\n");
    cluster.apply(&ns, &yaml)?;
    ready(cluster, &ns, "second")?;
    ensure!(cluster.kubectl(&format!("logs second -n {ns}"))? == "kept\n");
    // Another user, in the group that the volume was given to, may write.
    cluster.kubectl(&format!("exec second -n {ns} -- sh -c echo>>/data/file"))?;
    cluster.kubectl(&format!("delete pod second -n {ns}"))?;
    cluster.kubectl(&format!("delete pvc data -n {ns}"))?;
    is_gone(cluster, &format!("pv/{volume}"))?;
    ensure!(!fs::exists(&path)?, "{path} is still there");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn a_retained_volume_stays(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("retain")?;
    let class = "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: kept}\nprovisioner: knarr.dev/local\n\
                 reclaimPolicy: Retain\nvolumeBindingMode: Immediate\n---\n";
    cluster.apply(&ns, &(class.to_owned() + &claim("data", "  storageClassName: kept\n")))?;
    let volume = volume_of(cluster, &ns, "data")?;
    let path = cluster.get(&format!("pv/{volume}"))?["spec"]["local"]["path"].as_str().unwrap_or_default().to_owned();
    fs::write(format!("{path}/file"), "kept\n")?;
    cluster.kubectl(&format!("delete pvc data -n {ns}"))?;
    phase(cluster, &format!("pv/{volume}"), "Released")?;
    // Its administrator gives it to another claim.
    cluster.kubectl_args(&["patch", "pv", &volume, "-p", r#"{"spec":{"claimRef":null}}"#])?;
    phase(cluster, &format!("pv/{volume}"), "Available")?;
    let named = format!("  storageClassName: kept\n  volumeName: {volume}\n");
    cluster.apply(&ns, &(claim("again", &named) + &user("p", "again", "cat /data/file")))?;
    ready(cluster, &ns, "p")?;
    ensure!(cluster.kubectl(&format!("logs p -n {ns}"))? == "kept\n");
    cluster.kubectl(&format!("delete pod p -n {ns}"))?;
    cluster.kubectl(&format!("delete pvc again -n {ns}"))?;
    phase(cluster, &format!("pv/{volume}"), "Released")?;
    cluster.kubectl(&format!("delete pv {volume}"))?;
    ensure!(fs::read_to_string(format!("{path}/file"))? == "kept\n", "what is retained stays on the disk");
    cluster.kubectl("delete storageclass kept")?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn a_claim_grows(cluster: &Clients) -> Result<()> {
    let ns = cluster.namespace("grow")?;
    cluster.apply(&ns, &(claim("data", "") + &user("p", "data", "true")))?;
    ready(cluster, &ns, "p")?;
    let size = |size: &str| format!(r#"{{"spec":{{"resources":{{"requests":{{"storage":"{size}"}}}}}}}}"#);
    cluster.kubectl_args(&["patch", "pvc", "data", "-n", &ns, "-p", &size("3Gi")])?;
    cluster.expect(&format!("pvc/data -n {ns}"), "{.status.capacity.storage}", "3Gi")?;
    cluster.expect(&format!("pvc/data -n {ns}"), "{.status.conditions}", "")?;
    let volume = volume_of(cluster, &ns, "data")?;
    cluster.expect(&format!("pv/{volume}"), "{.spec.capacity.storage}", "3Gi")?;
    let said = knarr_e2e::command::run(&mut cluster.kubectl_command(&[
        "patch",
        "pvc",
        "data",
        "-n",
        &ns,
        "-p",
        &size("2Gi"),
    ]))?;
    ensure!(said.all().contains("field can not be less than status.capacity"), "{}", said.all());
    cluster.kubectl(&format!("delete namespace {ns}"))?;
    is_gone(cluster, &format!("pv/{volume}"))
}

fn an_ephemeral_volume_goes_with_its_pod(cluster: &Clients) -> Result<()> {
    let ns = cluster.namespace("ephemeral")?;
    let yaml = user("p", "unused", "echo x > /data/x").replace(
        "persistentVolumeClaim: {claimName: unused}",
        "ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOncePod], resources: {requests: {storage: 1Gi}}}}}",
    );
    cluster.apply(&ns, &yaml)?;
    ready(cluster, &ns, "p")?;
    let volume = volume_of(cluster, &ns, "p-data")?;
    // A claim for one pod is not for a second one.
    cluster.apply(&ns, &user("q", "p-data", "true"))?;
    eventually("the second pod hears why", || {
        let pod = cluster.get(&format!("pod/q -n {ns}"))?;
        let told = pod["status"]["conditions"].to_string();
        if told.contains("ReadWriteOncePod access mode already in-use by another pod") {
            Ok(())
        } else {
            bail!("{told}")
        }
    })?;
    cluster.kubectl(&format!("delete pod p q -n {ns}"))?;
    is_gone(cluster, &format!("pvc/p-data -n {ns}"))?;
    is_gone(cluster, &format!("pv/{volume}"))?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn what_cannot_be_provided_is_said(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("refused")?;
    let shared = claim("shared", "").replace("[ReadWriteOnce]", "[ReadWriteMany]");
    cluster.apply(&ns, &(shared + &user("p", "shared", "true") + &user("q", "nowhere", "true")))?;
    let told = |what: &str, reason: &str, wanted: &str| {
        let events = format!(
            "get events -n {ns} --field-selector=involvedObject.name={what},reason={reason} -o jsonpath={{.items[*].message}}"
        );
        eventually(&format!("{what} is told {wanted}"), || {
            let said = cluster.kubectl(&events)?;
            if said.contains(wanted) { Ok(()) } else { bail!("{said}") }
        })
    };
    told("shared", "ProvisioningFailed", "cannot be ReadWriteMany; ask for ReadWriteOnce or ReadWriteOncePod")?;
    told("q", "FailedScheduling", "persistentvolumeclaim \"nowhere\" not found")?;
    let driver = "apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: foreign}\nspec:\n  capacity: {storage: 1Gi}\n  \
                  accessModes: [ReadWriteOnce]\n  storageClassName: foreign\n  iscsi: {targetPortal: 192.0.2.1, iqn: \"iqn.2001-04.com.example:x\", lun: 0}\n---\n";
    let all = driver.to_owned() + &claim("foreign", "  storageClassName: foreign\n") + &user("r", "foreign", "true");
    cluster.apply(&ns, &all)?;
    told("r", "FailedMount", "iscsi volumes are not supported by this node")?;
    cluster.kubectl(&format!("delete namespace {ns}"))?;
    cluster.kubectl("delete pv foreign")?;
    Ok(())
}

fn volumes_and_secrets_survive_a_kill() -> Result<()> {
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    let ns = cluster.namespace("kill")?;
    cluster.kubectl(&format!("create secret generic login -n {ns} --from-literal=password=a-very-hidden-word"))?;
    cluster.apply(&ns, &(claim("data", "") + &user("p", "data", "echo kept > /data/file")))?;
    ready(&cluster, &ns, "p")?;
    cluster.kill()?;
    let store = cluster.data_dir().join("store");
    // In base64, as the object has it, and as it is.
    for word in ["a-very-hidden-word", "YS12ZXJ5LWhpZGRlbi13b3Jk"] {
        ensure!(!knarr_e2e::host::holds(&store, word)?, "{word} is in {}", store.display());
    }
    ensure!(knarr_e2e::host::holds(&store, "k8s:enc:aesgcm:v1:")?, "no encrypted record");
    let key = cluster.data_dir().join("pki/encryption.key");
    let (kept, elsewhere) = (fs::read_to_string(&key)?, cluster.scratch().join("moved.key"));
    fs::rename(&key, &elsewhere)?;
    let said = knarr_e2e::command::run(cluster.knarr("up").args(["--node-name", "node-1"]))?;
    ensure!(
        said.code != 0 && said.all().contains("encryption.key is gone and Secrets are encrypted"),
        "{}",
        said.all()
    );
    ensure!(!key.exists(), "a new key beside what another sealed");
    // A new key before the old one: what is there is read, and from now on encrypted anew.
    fs::write(&key, format!("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n{kept}"))?;
    cluster.start()?;
    let password = cluster.kubectl(&format!("get secret login -n {ns} -o jsonpath={{.data.password}}"))?;
    ensure!(password == "YS12ZXJ5LWhpZGRlbi13b3Jk", "{password}");
    ensure!(cluster.kubectl(&format!("exec p -n {ns} -- cat /data/file"))? == "kept\n");
    cluster.kubectl(&format!("delete pod p -n {ns}"))?;
    cluster.apply(&ns, &user("again", "data", "cat /data/file"))?;
    ready(&cluster, &ns, "again")?;
    ensure!(cluster.kubectl(&format!("logs again -n {ns}"))? == "kept\n");
    Ok(())
}
