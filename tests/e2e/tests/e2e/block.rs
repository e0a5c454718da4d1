//! Volumes that are devices. They are loop devices here, of files that the tests make.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use knarr_e2e::{Cluster, eventually, image::BUSYBOX};
use serde_json::{Value, json};

use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("a_block_device_is_given_as_one", a_block_device_is_given_as_one)]
}

/// A device of 1 MiB, as long as this lives.
pub struct Loop(PathBuf);

impl Loop {
    pub fn over(file: &Path) -> Result<Self> {
        File::create(file)?.set_len(1 << 20)?;
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output().context("losetup")?;
        ensure!(made.status.success(), "losetup: {}", String::from_utf8_lossy(&made.stderr));
        Ok(Self(String::from_utf8(made.stdout)?.trim().into()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

/// A claim of a certain volume, as a device.
pub fn claim(name: &str, volume: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {
        "volumeMode": "Block", "volumeName": volume, "storageClassName": "", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Mi"}}}})
}

/// A pod that has a claim's device at `/dev/data`.
pub fn user(name: &str, claim: &str, read_only: bool, command: &str) -> Value {
    let volume = json!({"name": "data", "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}});
    let container = json!({"name": "c", "image": BUSYBOX, "command": ["sh", "-c", command],
        "volumeDevices": [{"name": "data", "devicePath": "/dev/data"}]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 0, "restartPolicy": "Never", "volumes": [volume], "containers": [container]}})
}

fn a_block_device_is_given_as_one(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("block")?;
    let disk = Loop::over(&cluster.scratch().join("disk"))?;
    let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-1"]});
    let volume = |name: &str, path: &Path| {
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
            "volumeMode": "Block", "capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}}})
    };
    let finishes = |pod: &str, phase: &str| cluster.expect(&format!("pod/{pod} -n {ns}"), "{.status.phase}", phase);
    let logs = |pod: &str| cluster.kubectl(&format!("logs {pod} -n {ns}"));
    cluster.apply(&ns, &volume("disk", disk.path()).to_string())?;
    cluster.apply(&ns, &claim("data", "disk").to_string())?;
    let write = "test -b /dev/data && echo kept | dd of=/dev/data conv=fsync 2>/dev/null && exec sleep 1000";
    cluster.apply(&ns, &user("writer", "data", false, write).to_string())?;
    cluster.kubectl(&format!("wait pod/writer -n {ns} --for=condition=Ready --timeout=30s"))?;
    eventually("the device is written to", || {
        let said = cluster.kubectl(&format!("exec writer -n {ns} -- head -c 4 /dev/data"))?;
        if said == "kept" { Ok(()) } else { bail!("{said:?}") }
    })?;
    let summary = cluster.kubectl("get --raw /api/v1/nodes/node-1/proxy/stats/summary")?;
    let summary: Value = serde_json::from_str(&summary)?;
    let mut pods = summary["pods"].as_array().into_iter().flatten();
    let pod = pods.find(|pod| pod["podRef"]["namespace"] == *ns).context("the pod is not in the summary")?;
    let told = pod["volume"].as_array().into_iter().flatten().find(|volume| volume["name"] == "data");
    let told = told.with_context(|| format!("the volume is not in {pod}"))?;
    ensure!(told["capacityBytes"] == 1 << 20, "{told}");
    ensure!(told["pvcRef"] == json!({"name": "data", "namespace": *ns}), "{told}");
    let metrics = cluster.kubectl("get --raw /api/v1/nodes/node-1/proxy/metrics")?;
    let row =
        format!("kubelet_volume_stats_capacity_bytes{{namespace=\"{ns}\",persistentvolumeclaim=\"data\"}} 1048576");
    ensure!(metrics.lines().any(|line| line == row), "{row} is not in\n{metrics}");
    cluster.kubectl(&format!("delete pod writer -n {ns}"))?;

    let read = "head -n 1 /dev/data; if echo lost 2>/dev/null >/dev/data; then echo written; fi";
    cluster.apply(&ns, &user("reader", "data", true, read).to_string())?;
    finishes("reader", "Succeeded")?;
    ensure!(logs("reader")? == "kept\n", "{}", logs("reader")?);

    // A folder is no device, and a device is not mounted as files.
    cluster.apply(&ns, &volume("folder", cluster.scratch()).to_string())?;
    cluster.apply(&ns, &claim("folder", "folder").to_string())?;
    cluster.apply(&ns, &user("mistaken", "folder", false, "true").to_string())?;
    let mut mounts = user("mounts", "data", false, "true");
    let container = &mut mounts["spec"]["containers"][0];
    container["volumeDevices"] = json!(null);
    container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    cluster.apply(&ns, &mounts.to_string())?;
    for (pod, reason, words) in [
        ("mistaken", "FailedMapVolume", "MapVolume.MapPodDevice failed for volume \"data\" : "),
        ("mounts", "FailedMount", "volume data has volumeMode Block, but is specified in volumeMounts"),
    ] {
        eventually(&format!("{pod} is told why"), || {
            let wanted = format!("--field-selector=involvedObject.name={pod},reason={reason}");
            let said = cluster.kubectl(&format!("get events -n {ns} {wanted} -o jsonpath={{.items[*].message}}"))?;
            if said.contains(words) { Ok(()) } else { bail!("{said}") }
        })?;
    }
    cluster.kubectl(&format!("delete pod --all -n {ns}"))?;
    cluster.kubectl(&format!("delete pvc --all -n {ns}"))?;
    cluster.kubectl("delete pv disk folder")?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}
