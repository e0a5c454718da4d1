//! Pods by another's runtime, in the network of its plugins; and the built-in runtime, driven by others.

use std::{fs, os::unix::fs::symlink, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use knarr_e2e::{
    Cluster, Containerd,
    command::{run, run_with, succeed},
    containerd::{self, BRIDGE, RANGE},
    eventually, eventually_within,
    host::{Footprint, HOST_IP, outside},
};
use serde_json::{Value, json};

use crate::Alone;

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![
        ("elsewhere_pods_live_in_containerd", pods_live_in_containerd),
        ("elsewhere_plugins_make_the_network", plugins_make_the_network),
    ]
}

const WEB: &str = r#"
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: strange}
handler: other
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  runtimeClassName: strange
  terminationGracePeriodSeconds: 1
  volumes: [{name: www, emptyDir: {medium: Memory}}]
  containers:
  - name: web
    image: docker.io/library/busybox:1.35
    command: [sh, -c, "touch /tmp/alive; echo hello > /www/index.html; echo serving; exec httpd -f -v -p 80 -h /www"]
    volumeMounts: [{name: www, mountPath: /www}]
    resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {cpu: 500m, memory: 64Mi}}
    readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}
    livenessProbe: {exec: {command: [test, -f, /tmp/alive]}, periodSeconds: 1, failureThreshold: 1}
"#;

/// A pod's whole life, and containerd's end and return in the midst of it.
fn pods_live_in_containerd() -> Result<()> {
    let mut cluster = Cluster::new()?;
    let before = Footprint::take()?;
    let mut containerd = Containerd::start(&cluster.cache("containerd").join("root"))?;
    let lived = live(&mut cluster, &mut containerd);
    if lived.is_err() {
        eprintln!("--- containerd said:\n{}---", containerd.log());
    }
    // While containerd is there to end the pods, also where the test failed.
    let reset = cluster.reset();
    lived?;
    reset?;
    let sandboxes = containerd.ctr(&["containers", "ls", "--quiet"])?;
    ensure!(sandboxes.trim().is_empty(), "containers are left: {sandboxes}");
    containerd.finish()?;
    let difference = before.difference(&Footprint::take()?);
    ensure!(difference.is_empty(), "left behind: {difference:#?}");
    Ok(())
}

fn live(cluster: &mut Cluster, containerd: &mut Containerd) -> Result<()> {
    cluster.start_with(&["--runtime", &containerd.endpoint()])?;
    let version = &cluster.get("node/node-1")?["status"]["nodeInfo"]["containerRuntimeVersion"];
    ensure!(version.as_str().is_some_and(|version| version.starts_with("containerd://")), "{version}");
    let ns = cluster.namespace("elsewhere")?;
    cluster.apply(&ns, WEB)?;
    wait_for(cluster, &ns, "web")?;
    let pod = cluster.get(&format!("pod/web -n {ns}"))?;
    let ip = pod["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    ensure!(ip.starts_with(RANGE), "the pod's address is not its plugin's: {ip:?}");
    ensure!(container_id(&pod).starts_with("containerd://"), "{}", pod["status"]);
    let id = container_id(&pod);
    let id = id.trim_start_matches("containerd://");
    ensure!(containerd.runs_by_other(id), "the RuntimeClass's handler is not asked for");

    streams(cluster, &ns)?;
    services(cluster, &ns)?;

    // A probe that fails restarts the container.
    cluster.kubectl(&format!("exec web -n {ns} -- rm /tmp/alive"))?;
    cluster.expect(&format!("pod/web -n {ns}"), "{.status.containerStatuses[0].restartCount}", "1")?;
    wait_for(cluster, &ns, "web")?;
    let previous = cluster.kubectl(&format!("logs web -n {ns} --previous"))?;
    ensure!(previous.contains("serving"), "{previous}");

    // Without containerd the pod goes on, and with it again it is the same.
    let pod = cluster.get(&format!("pod/web -n {ns}"))?;
    containerd.kill()?;
    eventually_within(Duration::from_secs(90), "the node says that its runtime is gone", || {
        let said = node_ready(cluster)?;
        if said == ("False".to_owned(), "container runtime is down".to_owned()) { Ok(()) } else { bail!("{said:?}") }
    })?;
    let fetched = succeed(Command::new("curl").args(["-sS", "--max-time", "5", &format!("http://{ip}/")]))?;
    ensure!(fetched.trim() == "hello", "{fetched}");
    containerd.spawn()?;
    eventually("the node is ready again", || {
        let said = node_ready(cluster)?;
        if said.0 == "True" { Ok(()) } else { bail!("{said:?}") }
    })?;
    let said = cluster.kubectl(&format!("exec web -n {ns} -- cat /www/index.html"))?;
    ensure!(said.trim() == "hello", "{said}");
    let after = cluster.get(&format!("pod/web -n {ns}"))?;
    ensure!(container_id(&after) == container_id(&pod), "the container is another one: {}", after["status"]);
    wait_for(cluster, &ns, "web")?;

    // An agent that starts anew finds what it had.
    cluster.kill()?;
    cluster.start_with(&["--runtime", &containerd.endpoint()])?;
    wait_for(cluster, &ns, "web")?;
    let after = cluster.get(&format!("pod/web -n {ns}"))?;
    ensure!(container_id(&after) == container_id(&pod), "the container is another one: {}", after["status"]);

    cluster.kubectl(&format!("delete pod web -n {ns} --timeout=30s"))?;
    eventually("nothing is left of a pod that is deleted", || {
        let left = containerd.ctr(&["containers", "ls", "--quiet"])?;
        if left.trim().is_empty() { Ok(()) } else { bail!("{left}") }
    })?;
    // One is there when the cluster goes.
    cluster.kubectl(&format!("run last -n {ns} --image {} -- sleep 1000", knarr_e2e::image::BUSYBOX))?;
    wait_for(cluster, &ns, "last")
}

fn streams(cluster: &Cluster, ns: &str) -> Result<()> {
    let logs = cluster.kubectl(&format!("logs web -n {ns}"))?;
    ensure!(logs.contains("serving"), "{logs}");
    let mut cat = cluster.kubectl_command(&["exec", "-i", "web", "-n", ns, "--", "sh", "-c", "cat; exit 3"]);
    let long = "all that is said, and its end\n".repeat(10_000);
    let said = run_with(&mut cat, &long, Duration::from_secs(60))?;
    ensure!(said.stdout == long, "{} of {} bytes came back: {}", said.stdout.len(), long.len(), said.stderr);
    ensure!(said.code == 3, "{said:?}");
    let mut shell = cluster.kubectl_command(&["exec", "web", "-n", ns, "--", "sh", "-c", "echo out; echo err >&2"]);
    let said = run(&mut shell)?;
    ensure!((said.stdout.as_str(), said.stderr.trim()) == ("out\n", "err"), "{said:?}");

    let mut forward = cluster.kubectl_command(&["port-forward", "pod/web", "18080:80", "-n", ns]);
    let forwarding = knarr_e2e::command::start(&mut forward, "")?;
    eventually("the port is forwarded", || {
        let said = succeed(Command::new("curl").args(["-sS", "--max-time", "5", "http://127.0.0.1:18080/"]))?;
        if said.trim() == "hello" { Ok(()) } else { bail!("{said}") }
    })?;
    forwarding.kill().map(drop)
}

/// Its pods find Services and names as all others do.
fn services(cluster: &Cluster, ns: &str) -> Result<()> {
    eventually("a name leads to the Service", || {
        let name = format!("http://web.{ns}.svc.cluster.local/");
        let said = cluster.kubectl(&format!("exec web -n {ns} -- timeout 5 wget -qO- {name}"))?;
        if said.trim() == "hello" { Ok(()) } else { bail!("{said}") }
    })
}

const PUBLISHED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: docker.io/library/busybox:1.35
    command: [sh, -c, "echo hello > /tmp/index.html; exec httpd -f -p 80 -h /tmp"]
    ports: [{containerPort: 80, hostPort: 18088}]
    readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}
"#;

/// Debian's plugins make the network of the built-in runtime's pods, and undo it: bridge, host-local, portmap, loopback.
fn plugins_make_the_network() -> Result<()> {
    let mut cluster = Cluster::new()?;
    let before = Footprint::take()?;
    let root = cluster.cache("containerd").join("root");
    let dir = cluster.scratch().to_owned();
    for name in ["cni", "bin"] {
        fs::create_dir(dir.join(name))?;
    }
    // What Debian's iptables would be installed as; the plugins call it.
    for name in ["iptables", "ip6tables"] {
        symlink(root.join("usr/sbin/xtables-nft-multi"), dir.join("bin").join(name))?;
    }
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    cluster.set_env("PATH", format!("{}:{}", dir.join("bin").display(), std::env::var("PATH")?));
    cluster.set_env("LD_LIBRARY_PATH", &libraries);
    cluster.set_env("XTABLES_LIBDIR", libraries.join("xtables"));
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let network = containerd::network(&dir.join("addresses").to_string_lossy(), true, &[portmap]);
    fs::write(dir.join("cni/10-test.conflist"), network)?;
    let plugins = root.join("usr/lib/cni");
    let dirs = [dir.join("cni"), plugins].map(|dir| dir.to_string_lossy().into_owned());
    let arguments = ["--cni-conf-dir", &dirs[0], "--cni-bin-dir", &dirs[1]];

    cluster.start_with(&arguments)?;
    let ns = cluster.namespace("plugins")?;
    cluster.apply(&ns, PUBLISHED)?;
    wait_for(&cluster, &ns, "web")?;
    let ip = address(&cluster, &ns)?;
    ensure!(ip.starts_with(RANGE), "the pod's address is not its plugin's: {ip:?}");
    let fetch = || succeed(outside("curl").args(["-sS", "--max-time", "5", &format!("http://{HOST_IP}:18088/")]));
    let fetched = eventually("the port is published", fetch)?;
    ensure!(fetched.trim() == "hello", "{fetched}");
    let loopback = cluster.kubectl(&format!("exec web -n {ns} -- timeout 5 wget -qO- http://127.0.0.1/index.html"))?;
    ensure!(loopback.trim() == "hello", "{loopback}");

    cluster.kill()?;
    cluster.start_with(&arguments)?;
    ensure!(address(&cluster, &ns)? == ip, "the pod has another address after a restart");
    cluster.kubectl(&format!("delete pod web -n {ns} --timeout=30s"))?;
    let taken = || -> Result<Vec<String>> {
        let names = fs::read_dir(dir.join("addresses/knarr-test"))?.map(|entry| Ok(entry?.file_name()));
        let names: Vec<_> = names.collect::<Result<_>>()?;
        Ok(names
            .iter()
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| name.starts_with(RANGE))
            .collect())
    };
    ensure!(taken()?.is_empty(), "addresses are still taken: {:?}", taken()?);
    // One is there when the cluster goes.
    cluster.apply(&ns, PUBLISHED)?;
    wait_for(&cluster, &ns, "web")?;
    cluster.reset()?;
    ensure!(taken()?.is_empty(), "addresses are still taken: {:?}", taken()?);
    let rules = succeed(Command::new("nft").args(["list", "ruleset"]))?;
    ensure!(!rules.contains(RANGE), "the plugins' rules for a pod are left: {rules}");
    // What the plugins keep for the next pod is theirs.
    run(Command::new("nft").args(["flush", "ruleset"]))?;
    run(Command::new("ip").args(["link", "delete", BRIDGE]))?;
    let difference = before.difference(&Footprint::take()?);
    let left: Vec<_> = difference.iter().filter(|line| !line.contains("sysctl")).collect();
    ensure!(left.is_empty(), "left behind: {left:#?}");
    Ok(())
}

fn container_id(pod: &Value) -> String {
    pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default().to_owned()
}

fn wait_for(cluster: &Cluster, ns: &str, pod: &str) -> Result<()> {
    let ready = cluster.kubectl(&format!("wait pod/{pod} -n {ns} --for=condition=Ready --timeout=60s"));
    ready.map(drop).with_context(|| cluster.kubectl(&format!("describe pod {pod} -n {ns}")).unwrap_or_default())
}

fn address(cluster: &Cluster, ns: &str) -> Result<String> {
    let pod = cluster.get(&format!("pod/web -n {ns}"))?;
    Ok(pod["status"]["podIP"].as_str().unwrap_or_default().to_owned())
}

/// The status and message of the node's condition.
fn node_ready(cluster: &Cluster) -> Result<(String, String)> {
    let node = cluster.get("node/node-1")?;
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").context("no condition")?;
    let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
    Ok((text("status"), text("message")))
}
