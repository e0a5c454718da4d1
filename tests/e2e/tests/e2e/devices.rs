//! Devices of a plugin, and processors of a pod's own: who has what, also after the node was killed.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use knarr_e2e::{Cluster, Plugin, eventually, host::Footprint, image::BUSYBOX};
use serde_json::{Value, json};

use crate::Alone;

const RESOURCE: &str = "example.com/berth";

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![("devices_stay_with_their_pods", devices_stay), ("processors_stay_with_their_pods", processors_stay)]
}

/// A pod that waits, with these limits.
fn pod(name: &str, limits: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": BUSYBOX, "resources": {"limits": limits},
            "command": ["sh", "-c", "trap 'exit 1' USR1; while :; do sleep 0.1; done"]}]}})
}

fn berths(amount: u32) -> Value {
    json!({RESOURCE: amount.to_string()})
}

fn counts(cluster: &Cluster, expected: (&str, &str)) -> Result<()> {
    eventually("the node tells its devices", || {
        let status = cluster.get("node/node-1")?["status"].clone();
        let told = |list: &str| status[list][RESOURCE].as_str().unwrap_or_default().to_owned();
        let told = (told("capacity"), told("allocatable"));
        if (&*told.0, &*told.1) == expected { Ok(()) } else { bail!("{told:?} instead of {expected:?}") }
    })
}

fn ready(cluster: &Cluster, ns: &str, name: &str) -> Result<()> {
    cluster.kubectl(&format!("wait pod/{name} -n {ns} --for=condition=Ready --timeout=60s")).map(drop)
}

fn says(cluster: &Cluster, ns: &str, name: &str, script: &str) -> Result<String> {
    let said = cluster.kubectl_args(&["exec", name, "-n", ns, "--", "sh", "-c", script])?;
    Ok(said.trim().to_owned())
}

fn devices_stay() -> Result<()> {
    let before = Footprint::take()?;
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    let mut plugin = Plugin::start(&cluster.data_dir().join("node/device-plugins"), RESOURCE, &["one", "two"])?;
    counts(&cluster, ("2", "2"))?;
    let ns = cluster.namespace("devices")?;
    let apply = |cluster: &Cluster, pod: &Value| cluster.apply(&ns, &pod.to_string());

    apply(&cluster, &pod("first", &berths(1)))?;
    ready(&cluster, &ns, "first")?;
    let device = "echo $BERTHS; (: < /dev/berth) && echo read; (: > /dev/berth) || echo only; ls /berths/kubelet.sock";
    let said = says(&cluster, &ns, "first", &format!("({device}) 2>/dev/null"))?;
    ensure!(said == "one\nread\nonly\n/berths/kubelet.sock", "{said:?}");
    ensure!(plugin.calls() == ["Allocate one", "PreStartContainer one"], "{:?}", plugin.calls());

    // The scheduler gives nobody more than there is; who is bound past it hears so from the node.
    let mut greedy = pod("greedy", &berths(2));
    greedy["spec"]["nodeName"] = json!("node-1");
    apply(&cluster, &greedy)?;
    cluster.expect(&format!("pod/greedy -n {ns}"), "{.status.reason}", "UnexpectedAdmissionError")?;
    let message = cluster.get(&format!("pod/greedy -n {ns}"))?["status"]["message"].clone();
    let expected = "Pod was rejected: Allocate failed due to requested number of devices unavailable for \
                    example.com/berth. Requested: 2, Available: 1, which is unexpected";
    ensure!(message == expected, "{message}");

    // A node that is killed knows afterwards who has what, whether or not the plugin is back.
    let id = |cluster: &Cluster| -> Result<Value> {
        Ok(cluster.get(&format!("pod/first -n {ns}"))?["status"]["containerStatuses"][0]["containerID"].clone())
    };
    let container = id(&cluster)?;
    cluster.kill()?;
    cluster.start()?;
    counts(&cluster, ("0", "0"))?;
    ensure!(id(&cluster)? == container, "the container is another one");
    health(&cluster, &ns, "Unknown")?;
    plugin.serve_and_register()?;
    counts(&cluster, ("2", "2"))?;
    health(&cluster, &ns, "Healthy")?;
    says(&cluster, &ns, "first", "kill -USR1 1")?;
    cluster.expect(&format!("pod/first -n {ns}"), "{.status.containerStatuses[0].restartCount}", "1")?;
    ready(&cluster, &ns, "first")?;
    ensure!(says(&cluster, &ns, "first", "echo $BERTHS")? == "one", "the device is another one");
    apply(&cluster, &pod("second", &berths(1)))?;
    ready(&cluster, &ns, "second")?;
    ensure!(says(&cluster, &ns, "second", "echo $BERTHS")? == "two", "one device for two pods");

    // What a pod had is the next one's; what is not healthy is nobody's.
    cluster.kubectl(&format!("delete pod second -n {ns}"))?;
    apply(&cluster, &pod("third", &berths(1)))?;
    ready(&cluster, &ns, "third")?;
    ensure!(says(&cluster, &ns, "third", "echo $BERTHS")? == "two", "the device is not free again");
    plugin.set_health("one", false);
    counts(&cluster, ("2", "1"))?;
    health(&cluster, &ns, "Unhealthy")?;

    // A plugin that is a pod finds the node where it looks for it.
    let mut inside = pod("plugin", &json!({}));
    inside["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": "/var/lib/kubelet/device-plugins"}}]);
    inside["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "v", "mountPath": "/var/lib/kubelet/device-plugins"}]);
    apply(&cluster, &inside)?;
    ready(&cluster, &ns, "plugin")?;
    says(&cluster, &ns, "plugin", "test -S /var/lib/kubelet/device-plugins/kubelet.sock")?;

    drop(plugin);
    counts(&cluster, ("2", "0"))?;
    ends(&mut cluster, before)
}

/// Nothing of the cluster is left; what others on this machine make meanwhile is theirs.
fn ends(cluster: &mut Cluster, before: Footprint) -> Result<()> {
    let run_dir = cluster.run_dir()?;
    let digest = run_dir.file_name().unwrap_or_default().to_string_lossy();
    cluster.reset()?;
    let difference = before.of_one(&digest).difference(&Footprint::take()?.of_one(&digest));
    ensure!(difference.is_empty(), "left behind: {difference:#?}");
    Ok(())
}

fn health(cluster: &Cluster, ns: &str, expected: &str) -> Result<()> {
    let path = "{.status.containerStatuses[0].allocatedResourcesStatus[0].resources[0].health}";
    cluster.expect(&format!("pod/first -n {ns}"), path, expected)
}

fn processors_stay() -> Result<()> {
    let before = Footprint::take()?;
    let mut cluster = Cluster::new()?;
    let policy = ["--cpu-manager-policy", "static", "--kube-reserved", "cpu=500m"];
    cluster.start_with(&policy)?;
    let ns = cluster.namespace("processors")?;
    let allowed = |cluster: &Cluster, name: &str| -> Result<BTreeSet<u32>> {
        let list = says(cluster, &ns, name, "sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/1/status")?;
        let mut found = BTreeSet::new();
        for range in list.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            found.extend(first.parse::<u32>().context(list.clone())?..=last.parse()?);
        }
        Ok(found)
    };
    cluster.apply(&ns, &pod("shares", &json!({"cpu": "100m"})).to_string())?;
    ready(&cluster, &ns, "shares")?;
    let all = allowed(&cluster, "shares")?;
    ensure!(all.len() > 1, "a machine with one processor has none to give away");
    let wanted = json!({"cpu": "1", "memory": "32Mi"});
    cluster.apply(&ns, &pod("owns", &wanted).to_string())?;
    ready(&cluster, &ns, "owns")?;
    let own = allowed(&cluster, "owns")?;
    ensure!(own.len() == 1 && !own.contains(&0), "{own:?} of {all:?}");
    let rest: BTreeSet<u32> = all.difference(&own).copied().collect();
    let until = |cluster: &Cluster, expected: &BTreeSet<u32>| {
        eventually("the others have the rest", || {
            let has = allowed(cluster, "shares")?;
            if has == *expected { Ok(()) } else { bail!("{has:?} instead of {expected:?}") }
        })
    };
    until(&cluster, &rest)?;
    let limit = cluster.get(&format!("pod/owns -n {ns}"))?["status"]["containerStatuses"][0]["resources"].clone();
    ensure!(limit["limits"]["cpu"] == "1", "{limit}");

    cluster.kill()?;
    cluster.start_with(&policy)?;
    ready(&cluster, &ns, "owns")?;
    ensure!(allowed(&cluster, "owns")? == own, "the processors are others");
    until(&cluster, &rest)?;
    says(&cluster, &ns, "owns", "kill -USR1 1")?;
    cluster.expect(&format!("pod/owns -n {ns}"), "{.status.containerStatuses[0].restartCount}", "1")?;
    ready(&cluster, &ns, "owns")?;
    ensure!(allowed(&cluster, "owns")? == own, "the processors are others");
    cluster.kubectl(&format!("delete pod owns -n {ns}"))?;
    until(&cluster, &all)?;
    ends(&mut cluster, before)
}
