//! Devices by claims: a driver offers two, pods compete for them, and what they get is in their containers; also after
//! the node was killed.

use anyhow::{Result, ensure};
use knarr_e2e::{Clients, Cluster, Driver, eventually, host::Footprint, image::BUSYBOX};
use serde_json::{Value, json};

use crate::Alone;

const DRIVER: &str = "berth.e2e.knarr.example";

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![("claimed_devices_are_prepared_and_given_back", claimed_devices)]
}

fn offer() -> [Value; 3] {
    let device = |name: &str, size: i64| json!({"name": name, "attributes": {"size": {"int": size}}});
    [
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "berths"}, "spec": {
            "driver": DRIVER, "nodeName": "node-1", "devices": [device("small", 1), device("large", 9)],
            "pool": {"name": "node-1", "generation": 1, "resourceSliceCount": 1}}}),
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "large-berth"}, "spec": {
            "selectors": [{"cel": {"expression": format!("device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].size > 5")}}]}}),
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": {"name": "one"}, "spec": {"spec": {
            "devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "large-berth"}}]}}}}),
    ]
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 1,
        "resourceClaims": [{"name": "berth", "resourceClaimTemplateName": "one"}],
        "containers": [
            {"name": "has", "image": BUSYBOX, "resources": {"claims": [{"name": "berth"}]},
                "command": ["sh", "-c", "trap 'exit 1' USR1; while :; do sleep 0.1; done"]},
            {"name": "has-not", "image": BUSYBOX, "command": ["sleep", "1000"]}]}})
}

fn says(cluster: &Cluster, ns: &str, pod: &str, container: &str, script: &str) -> Result<String> {
    let said = cluster.kubectl_args(&["exec", pod, "-n", ns, "-c", container, "--", "sh", "-c", script])?;
    Ok(said.trim().to_owned())
}

fn ready(cluster: &Cluster, ns: &str, name: &str) -> Result<()> {
    cluster.kubectl(&format!("wait pod/{name} -n {ns} --for=condition=Ready --timeout=60s")).map(drop)
}

fn claimed_devices() -> Result<()> {
    let before = Footprint::take()?;
    let mut cluster = Cluster::new()?;
    let kubelet_dir = cluster.scratch().join("kubelet");
    let directory = kubelet_dir.display().to_string();
    cluster.start_with(&["--kubelet-dir", &directory])?;
    let driver_clients = || Clients::new(&cluster.scratch().join("driver"), &cluster.kubeconfig());
    let driver = Driver::start(&kubelet_dir, DRIVER, driver_clients()?)?;
    eventually("the driver is registered", || {
        ensure!(driver.calls() == ["registered"], "{:?}", driver.calls());
        Ok(())
    })?;
    let ns = cluster.namespace("claims")?;
    for object in offer() {
        cluster.apply(&ns, &object.to_string())?;
    }

    cluster.apply(&ns, &pod("first").to_string())?;
    ready(&cluster, &ns, "first")?;
    let device = "echo $BERTH; head -c 3 /dev/berth | wc -c; ls /berths | wc -l; touch /berths/x || echo read-only";
    let said = says(&cluster, &ns, "first", "has", &format!("({device}) 2>/dev/null"))?;
    ensure!(said == "large\n3\n1\nread-only", "{said:?}");
    let said = says(&cluster, &ns, "first", "has-not", "echo \"[$BERTH]\"; ls /dev/berth 2>/dev/null || echo nothing")?;
    ensure!(said == "[]\nnothing", "{said:?}");
    let table = cluster.kubectl(&format!("get resourceclaims -n {ns}"))?;
    ensure!(table.contains("allocated,reserved") && table.contains("first-berth-"), "{table}");

    // The other device is not what the class means.
    cluster.apply(&ns, &pod("second").to_string())?;
    let message = "{.status.conditions[?(@.type=='PodScheduled')].message}";
    let expected = "0/1 nodes are available: 1 cannot allocate all claims. preemption: 0/1 nodes are available: 1 \
                    Preemption is not helpful for scheduling.";
    cluster.expect(&format!("pod/second -n {ns}"), message, expected)?;

    // A node that is killed knows what is prepared, and asks nobody for it again.
    cluster.kill()?;
    cluster.start_with(&["--kubelet-dir", &directory])?;
    says(&cluster, &ns, "first", "has", "kill -USR1 1")?;
    cluster.expect(&format!("pod/first -n {ns}"), "{.status.containerStatuses[0].restartCount}", "1")?;
    ready(&cluster, &ns, "first")?;
    ensure!(says(&cluster, &ns, "first", "has", "echo $BERTH")? == "large", "the device is lost");

    // What the first gives back is the second's.
    cluster.kubectl(&format!("delete pod first -n {ns}"))?;
    ready(&cluster, &ns, "second")?;
    ensure!(says(&cluster, &ns, "second", "has", "echo $BERTH")? == "large", "no device");
    let calls = driver.calls();
    let own: Vec<_> = calls.iter().filter(|call| *call != "registered").map(String::as_str).collect();
    ensure!(own == ["prepare large", "unprepare what it had", "prepare large"], "{calls:?}");
    cluster.kubectl(&format!("delete pod second -n {ns}"))?;
    eventually("no claim is left", || {
        let left = cluster.kubectl(&format!("get resourceclaims -n {ns} -o name"))?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(())
    })?;
    drop(driver);
    cluster.reset()?;
    ensure!(!kubelet_dir.exists(), "{} is left behind", kubelet_dir.display());
    let difference = before.difference(&Footprint::take()?);
    ensure!(difference.is_empty(), "left behind: {difference:#?}");
    Ok(())
}
