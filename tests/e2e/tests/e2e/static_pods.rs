//! Static pods: manifests in a folder of the node, and their mirrors in the API.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use knarr_e2e::{Cluster, command::run, eventually, host::HOST_IP, image::BUSYBOX, traces};
use serde_json::{Value, json};

use crate::Alone;

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![("manifests_in_a_folder_are_pods", manifests)]
}

/// A server of `word` at a port of the host, which only one pod at a time can have.
fn manifest(word: &str) -> String {
    let serve = format!("mkdir /www; echo {word} > /www/word; exec httpd -f -p 18079 -h /www");
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"word": word}}, "spec": {
        "hostNetwork": true, "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": BUSYBOX, "command": ["sh", "-c", serve],
            "ports": [{"containerPort": 18079}]}]}})
    .to_string()
}

/// Replaced at once, as an operator's editor would.
fn write(dir: &Path, name: &str, text: &str) -> Result<()> {
    let hidden = dir.join(format!(".{name}"));
    fs::write(&hidden, text)?;
    fs::rename(hidden, dir.join(name))?;
    Ok(())
}

/// The mirror of the server of `word`, once that answers.
fn serves(cluster: &Cluster, word: &str) -> Result<Value> {
    eventually(&format!("{word} is served"), || {
        let mirror = cluster.get("pod/web-node-1")?;
        ensure!(mirror["metadata"]["labels"]["word"] == *word, "{}", mirror["metadata"]);
        ensure!(mirror["status"]["containerStatuses"][0]["ready"] == true, "{}", mirror["status"]);
        let url = format!("http://{HOST_IP}:18079/word");
        let said = run(std::process::Command::new("curl").args(["-sS", "--max-time", "5", &url]))?;
        ensure!(said.stdout.trim() == word, "{}", said.all());
        Ok(mirror)
    })
}

fn container(mirror: &Value) -> &Value {
    &mirror["status"]["containerStatuses"][0]["containerID"]
}

fn manifests() -> Result<()> {
    let mut cluster = Cluster::new()?;
    let dir: PathBuf = cluster.data_dir().join("node/manifests");
    fs::create_dir_all(&dir)?;
    write(&dir, "broken.yaml", "kind: [")?;
    write(&dir, "other.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")?;
    write(&dir, "web.yaml", &manifest("one"))?;
    cluster.start()?;
    let first = serves(&cluster, "one")?;
    let meta = &first["metadata"];
    let uid = &meta["annotations"]["kubernetes.io/config.hash"];
    ensure!(meta["annotations"]["kubernetes.io/config.mirror"] == *uid && uid.is_string(), "{meta}");
    ensure!(meta["annotations"]["kubernetes.io/config.source"] == "file", "{meta}");
    ensure!(meta["ownerReferences"][0]["kind"] == "Node" && meta["namespace"] == "default", "{meta}");
    ensure!(first["status"]["podIP"] == HOST_IP && first["status"]["qosClass"] == "BestEffort", "{}", first["status"]);
    let logs = cluster.kubectl("exec web-node-1 -- cat /www/word")?;
    ensure!(logs == "one\n", "{logs}");

    // The mirror is a picture: who deletes it gets another, and nothing happens to the pod.
    cluster.kubectl("delete pod/web-node-1 --wait=false")?;
    let again = eventually("another mirror", || {
        let again = serves(&cluster, "one")?;
        ensure!(again["metadata"]["uid"] != meta["uid"], "still the same mirror");
        Ok(again)
    })?;
    ensure!(container(&again) == container(&first), "{} {}", container(&first), container(&again));

    write(&dir, "web.yaml", &manifest("two"))?;
    let second = serves(&cluster, "two")?;
    ensure!(second["metadata"]["annotations"]["kubernetes.io/config.hash"] != *uid, "{}", second["metadata"]);
    ensure!(second["status"]["containerStatuses"][0]["restartCount"] == 0, "{}", second["status"]);

    cluster.kill()?;
    cluster.start()?;
    let kept = serves(&cluster, "two")?;
    ensure!(container(&kept) == container(&second), "{} {}", container(&second), container(&kept));
    // Changed while nobody looked.
    cluster.kill()?;
    write(&dir, "web.yaml", &manifest("three"))?;
    cluster.start()?;
    serves(&cluster, "three")?;

    fs::remove_file(dir.join("web.yaml"))?;
    eventually("the pod and its mirror are gone", || {
        let left = cluster.kubectl("get pods -o name")?;
        let shims = traces::shims(&cluster)?;
        ensure!(left.is_empty() && shims.is_empty(), "{left} {shims:?}");
        Ok(())
    })?;
    cluster.reset()?;
    Ok(())
}
