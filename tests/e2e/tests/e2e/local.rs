//! `knarr cluster`: several nodes on one machine, their power switches, and what is left of them.

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, ensure};
use knarr_e2e::{
    Local,
    command::{Running, run, start, succeed},
    eventually,
    host::{Footprint, outside},
    image::BUSYBOX,
};

use crate::{Alone, OnFive};

pub fn on_five() -> Vec<(&'static str, OnFive)> {
    vec![
        ("five_nodes_are_ready", five_nodes_are_ready),
        ("a_node_has_a_root_of_its_own", a_node_has_a_root_of_its_own),
        ("pods_of_all_nodes_reach_each_other_and_services", pods_of_all_nodes_reach_each_other_and_services),
    ]
}

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![
        ("a_local_cluster_leaves_no_trace", a_local_cluster_leaves_no_trace),
        ("a_node_loses_its_power_and_comes_back", a_node_loses_its_power_and_comes_back),
        ("nodes_stand_still_crash_come_and_go", nodes_stand_still_crash_come_and_go),
        ("local_clusters_live_side_by_side", local_clusters_live_side_by_side),
        ("a_cluster_that_cannot_start_is_removed_again", a_cluster_that_cannot_start_is_removed_again),
    ]
}

fn five_nodes_are_ready(five: &Local) -> Result<()> {
    println!("five nodes ready after {} ms", five.took.as_millis());
    let names = five.kubectl("get nodes -o name")?;
    let expected = ["agent-1", "agent-2", "agent-3", "agent-4", "server"];
    let expected: Vec<String> = expected.iter().map(|name| format!("node/{}", five.node_name(name))).collect();
    ensure!(names.lines().eq(expected.iter().map(String::as_str)), "{names}");
    five.kubectl("wait node --all --for=condition=Ready --timeout=10s")?;
    let list = five.cluster("list")?;
    ensure!(list.lines().filter(|line| line.ends_with("running")).count() == 5, "{list}");
    let context = five.kubectl_args(&[
        "--kubeconfig",
        &five.user_kubeconfig().display().to_string(),
        "config",
        "current-context",
    ])?;
    ensure!(context.trim() == format!("knarr-{}", five.name()), "{context}");
    let ids = five.kubectl("get nodes -o jsonpath={.items[*].status.nodeInfo.machineID}")?;
    let ids: BTreeSet<&str> = ids.split_whitespace().collect();
    ensure!(ids.len() == 5, "machines share an id: {ids:?}");
    // The API answers the world outside of this host too, which forwards to the nodes.
    let server = five.describe()?["server"].as_str().context("no server")?.to_owned();
    let answer = run(outside("curl").args(["-sk", "--max-time", "5", &format!("{server}/readyz")]))?;
    ensure!(answer.stdout == "ok", "{}", answer.all());
    Ok(())
}

/// What a pod writes to a path of its node is on that node, and neither on another nor on the host.
fn a_node_has_a_root_of_its_own(five: &Local) -> Result<()> {
    let ns = five.namespace("root")?;
    let path = format!("/{ns}");
    for node in ["agent-1", "agent-2"] {
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {node}}}\nspec:\n  nodeName: {}\n  restartPolicy: Never\n  \
             containers:\n  - name: c\n    image: {BUSYBOX}\n    command: [sh, -c, 'ls /d; hostname > /d/$(hostname)']\n    \
             volumeMounts: [{{name: d, mountPath: /d}}]\n  volumes: [{{name: d, hostPath: {{path: {path}, type: \
             DirectoryOrCreate}}}}]\n",
            five.node_name(node)
        );
        five.apply(&ns, &pod)?;
        five.expect(&format!("pod/{node} -n {ns}"), "{.status.phase}", "Succeeded")?;
        let found = five.kubectl(&format!("logs {node} -n {ns}"))?;
        ensure!(found.is_empty(), "the node {node} shows what another's pod wrote: {found}");
    }
    ensure!(!Path::new(&path).exists(), "a pod's file is on the host");
    Ok(())
}

/// A pod on every node, the server's too: each reaches each, the Service of all by name, and the outside reaches the
/// Service on every node and by an address of its own.
fn pods_of_all_nodes_reach_each_other_and_services(five: &Local) -> Result<()> {
    let ns = five.namespace("reach")?;
    let daemons = format!(
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: web}}\nspec:\n  selector: {{matchLabels: {{app: web}}}}\n  \
         template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      tolerations: [{{operator: Exists}}]\n      \
         containers:\n      - name: web\n        image: {BUSYBOX}\n        command: [sh, -c, 'mkdir /w; echo $NODE > \
         /w/index.html; exec httpd -f -p 8080 -h /w']\n        env: [{{name: NODE, valueFrom: {{fieldRef: {{fieldPath: \
         spec.nodeName}}}}}}]\n        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}\n---\napiVersion: \
         v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n  type: LoadBalancer\n  selector: {{app: web}}\n  ports: [{{port: \
         80, targetPort: 8080}}]\n"
    );
    five.apply(&ns, &daemons)?;
    five.kubectl(&format!("rollout status daemonset/web -n {ns} --timeout=60s"))?;
    let pods = five.get(&format!("pods -n {ns}"))?;
    let pods = pods["items"].as_array().context("no pods")?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let pods: Vec<(String, String, String)> = pods
        .iter()
        .map(|pod| (text(&pod["metadata"]["name"]), text(&pod["spec"]["nodeName"]), text(&pod["status"]["podIP"])))
        .collect();
    ensure!(pods.iter().map(|(_, node, _)| node).collect::<BTreeSet<_>>().len() == 5, "{pods:?}");
    let all = pods.iter().map(|(_, node, ip)| format!("test \"$(timeout 5 wget -q -O- http://{ip}:8080/)\" = {node}"));
    let script = all.chain(["timeout 5 wget -q -O- http://web/".to_owned()]).collect::<Vec<_>>().join(" && ");
    for (pod, node, _) in &pods {
        let said = five.kubectl_args(&["exec", pod, "-n", &ns, "--", "sh", "-c", &script]);
        said.with_context(|| format!("from {node}"))?;
    }
    let service = five.get(&format!("service/web -n {ns}"))?;
    let port = &service["spec"]["ports"][0]["nodePort"];
    let address = eventually("the Service has an address of its own", || {
        let service = five.get(&format!("service/web -n {ns}"))?;
        service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().map(str::to_owned).context("it has none")
    })?;
    let nodes = five.describe()?["nodes"].as_array().cloned().unwrap_or_default();
    let on_nodes = nodes.iter().map(|node| format!("http://{}:{port}/", text(&node["address"])));
    for url in on_nodes.chain([format!("http://{address}/")]) {
        let get = || -> Result<()> {
            let answer = succeed(outside("curl").args(["-sS", "--max-time", "2", &url]))?;
            ensure!(answer.starts_with("five-"), "{answer:?}");
            Ok(())
        };
        eventually(&format!("the outside reaches {url}"), get)?;
    }
    Ok(())
}

fn a_local_cluster_leaves_no_trace() -> Result<()> {
    let before = Footprint::take()?;
    let local = Local::prepare("trace")?;
    let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: work # the office\nclusters: []\nusers: []\n\
        contexts:\n- name: work\n  context: {cluster: work, user: me}\n";
    fs::write(local.user_kubeconfig(), kubeconfig)?;
    let said = run(&mut local.create_command(3))?;
    ensure!(said.code == 0, "{}", said.all());
    ensure!(
        said.stdout.contains("--context knarr-trace get nodes"),
        "the next line to type is missing: {}",
        said.stdout
    );
    let ns = local.namespace("trace")?;
    local.kubectl(&format!("create deployment web -n {ns} --image=knarr.local/demo:v1 --replicas=6 --port=8080"))?;
    local.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=60s"))?;
    let again = local.cluster_fails("create trace")?;
    ensure!(again.contains("there is a cluster trace already"), "{again}");
    // Whatever state it is in: one node's process 1 is gone, one stands still.
    let init = local.node("agent-1")?["pid"].as_u64().context("no process 1")?;
    run(Command::new("kill").args(["-9", &init.to_string()]))?;
    eventually("the kernel says that the node is gone", || {
        let node = local.node("agent-1")?;
        ensure!(node["state"] == "stopped", "{node}");
        Ok(())
    })?;
    local.cluster("node pause agent-2")?;
    let said = local.delete()?;
    ensure!(said.code == 0, "{}", said.all());
    let difference = before.difference(&Footprint::take()?);
    ensure!(difference.is_empty(), "left behind:\n{}", difference.join("\n"));
    ensure!(!local.clusters_dir().exists(), "the directory is still there");
    let left = processes_about(&local.clusters_dir())?;
    ensure!(left.is_empty(), "processes left behind: {left:?}");
    let after = fs::read_to_string(local.user_kubeconfig())?;
    ensure!(after == kubeconfig, "{after}");
    let gone = local.cluster_fails("delete trace")?;
    ensure!(gone.contains("there is no cluster trace"), "{gone}");
    Ok(())
}

fn a_node_loses_its_power_and_comes_back() -> Result<()> {
    let local = Local::create("power", 2, &[])?;
    let ns = local.namespace("power")?;
    let node = local.node_name("agent-1");
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: keeper}}\nspec:\n  nodeName: {node}\n  containers:\n  - name: c\n    \
         image: {BUSYBOX}\n    command: [sh, -c, 'echo life >> /kept/lives; exec sleep 3600']\n    volumeMounts: [{{name: \
         kept, mountPath: /kept}}]\n  volumes: [{{name: kept, hostPath: {{path: /kept, type: DirectoryOrCreate}}}}]\n"
    );
    local.apply(&ns, &pod)?;
    local.kubectl(&format!("wait pod/keeper -n {ns} --for=condition=Ready --timeout=30s"))?;
    let group = pods_group(&local, "agent-1")?;
    ensure!(!cgroups_of(&group).is_empty(), "the pod has no control group called {group}");

    let begun = Instant::now();
    local.cluster("node stop agent-1")?;
    println!("stopped in {} ms", begun.elapsed().as_millis());
    ensure!(local.node("agent-1")?["state"] == "stopped", "{}", local.cluster("list")?);
    ensure!(cgroups_of(&group).is_empty(), "control groups of the dead: {:?}", cgroups_of(&group));
    let data = local.clusters_dir().join("power").join(&node).join("data");
    let left = processes_about(&data)?;
    ensure!(left.is_empty(), "processes of the dead: {left:?}");
    // The number in the server's lock is another process's here.
    let server = local.node("server")?["dataDirectory"].as_str().context("no directory")?.to_owned();
    for command in ["down", "reset --yes"] {
        let refused = run(local.knarr(command).args(["--data-dir", &server]))?;
        ensure!(refused.code == 1 && refused.stderr.contains("knarr cluster"), "{}", refused.all());
    }
    let stopped = local.cluster_fails("node pause agent-1")?;
    ensure!(stopped.contains("does not run"), "{stopped}");

    local.cluster("node start agent-1")?;
    eventually("the pod runs again, after one restart", || {
        let pod = local.get(&format!("pod/keeper -n {ns}"))?;
        let status = &pod["status"]["containerStatuses"][0];
        ensure!(status["ready"] == true && status["restartCount"] == 1, "{status}");
        Ok(())
    })?;
    let lives = local.kubectl(&format!("exec keeper -n {ns} -- cat /kept/lives"))?;
    ensure!(lives == "life\nlife\n", "{lives:?}");

    // The same for all of it, as after a restart of the machine.
    local.cluster("stop")?;
    local.cluster("start")?;
    local.kubectl("wait node --all --for=condition=Ready --timeout=10s")?;
    eventually("the pod runs again, after one more restart", || {
        let lives = local.kubectl(&format!("exec keeper -n {ns} -- cat /kept/lives"))?;
        ensure!(lives == "life\nlife\nlife\n", "{lives:?}");
        Ok(())
    })
}

fn nodes_stand_still_crash_come_and_go() -> Result<()> {
    let local = Local::create("switch", 2, &[])?;
    let ns = local.namespace("switch")?;
    let node = local.node_name("agent-1");
    let overrides = format!(r#"{{"spec":{{"nodeName":"{node}"}}}}"#);
    local.kubectl_args(&[
        "run",
        "steady",
        "-n",
        &ns,
        "--image",
        BUSYBOX,
        "--overrides",
        &overrides,
        "--",
        "sh",
        "-c",
        "while true; do echo tick; sleep 1; done",
    ])?;
    local.kubectl(&format!("wait pod/steady -n {ns} --for=condition=Ready --timeout=30s"))?;
    let logs =
        || -> Result<Running> { start(&mut local.kubectl_command(&["logs", "steady", "-n", &ns, "--tail=1"]), "") };

    local.cluster("node pause agent-1")?;
    ensure!(local.node("agent-1")?["state"] == "paused", "{}", local.cluster("list")?);
    let unanswered = logs()?.finish(std::time::Duration::from_secs(1));
    ensure!(unanswered.is_err(), "a node that stands still answers: {unanswered:?}");
    local.cluster("node resume agent-1")?;
    local.kubectl(&format!("logs steady -n {ns} --tail=1"))?;

    // A crash of the program is no loss of power: what runs goes on.
    let program = local.program_of("agent-1")?;
    run(Command::new("kill").args(["-9", &program.to_string()]))?;
    eventually("the program is started again", || {
        let now = local.program_of("agent-1")?;
        ensure!(now != program, "it is the one that was killed");
        Ok(())
    })?;
    eventually("the node answers again", || local.kubectl(&format!("logs steady -n {ns} --tail=1")))?;
    let pod = local.get(&format!("pod/steady -n {ns}"))?;
    ensure!(pod["status"]["containerStatuses"][0]["restartCount"] == 0, "{}", pod["status"]);

    local.cluster("node add")?;
    local.kubectl(&format!("wait node/{} --for=condition=Ready --timeout=5s", local.node_name("agent-2")))?;
    local.cluster("node remove agent-1")?;
    let names = local.kubectl("get nodes -o name")?;
    ensure!(!names.contains(&node) && names.lines().count() == 2, "{names}");
    let unknown = local.cluster_fails("node start agent-1")?;
    ensure!(unknown.contains("there is no node agent-1"), "{unknown}");
    let server = local.cluster_fails("node remove server")?;
    ensure!(server.contains("there is no cluster"), "{server}");
    Ok(())
}

fn local_clusters_live_side_by_side() -> Result<()> {
    let (left, right) = (Local::create("left", 1, &[])?, Local::create("right", 2, &[])?);
    let network = |local: &Local| -> Result<String> {
        Ok(local.describe()?["network"].as_str().context("no network")?.to_owned())
    };
    ensure!(network(&left)? != network(&right)?, "both are in {}", network(&left)?);
    let names = left.kubectl("get nodes -o name")?;
    ensure!(names.trim() == "node/left-server", "{names}");
    let said = left.delete()?;
    ensure!(said.code == 0, "{}", said.all());
    // The host forwards still: the nodes of the other reach each other's world.
    let names = right.kubectl("get nodes -o name")?;
    ensure!(names.lines().count() == 2, "{names}");
    let forwarding = fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?;
    ensure!(forwarding.trim() == "1", "forwarding was taken from the cluster that is left");
    Ok(())
}

fn a_cluster_that_cannot_start_is_removed_again() -> Result<()> {
    let before = Footprint::take()?;
    let local = Local::prepare("never")?;
    let said = run(local.create_command(2).args(["--node-monitor-grace-period", "1s"]))?;
    ensure!(said.code == 1 && said.stderr.contains("its log says"), "{}", said.all());
    ensure!(said.stderr.contains("5s"), "the reason is missing: {}", said.all());
    let bad = run(local.create_command(2).args(["--network", "10.99.0.0/24"]))?;
    ensure!(bad.code == 1 && bad.stderr.contains("in use on this host already (by uplink)"), "{}", bad.all());
    let bad = local.cluster_fails("create No_Such")?;
    ensure!(bad.contains("cannot be a cluster's name"), "{bad}");
    let difference = before.difference(&Footprint::take()?);
    ensure!(difference.is_empty(), "left behind:\n{}", difference.join("\n"));
    ensure!(!local.clusters_dir().exists(), "the directory is still there");
    Ok(())
}

/// The processes of this host with a path in their arguments, but for this test's own.
fn processes_about(path: &Path) -> Result<BTreeSet<String>> {
    let path = path.display().to_string();
    let mut found = BTreeSet::new();
    for process in fs::read_dir("/proc")?.flatten() {
        let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if words.contains(&path) {
            found.insert(words);
        }
    }
    Ok(found)
}

/// What the control groups of a node's pods are called: by the digest of its data directory.
fn pods_group(local: &Local, node: &str) -> Result<String> {
    use std::os::unix::ffi::OsStrExt;
    let data = local.node(node)?["dataDirectory"].as_str().context("no directory")?.to_owned();
    let digest = knarr_e2e::image::digest(Path::new(&data).as_os_str().as_bytes());
    Ok(format!("knarr-{}", &digest[..8]))
}

/// The topmost control groups whose names begin so, in all hierarchies.
fn cgroups_of(prefix: &str) -> Vec<String> {
    let roots = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    let groups =
        roots.chain(["/sys/fs/cgroup".into()]).flat_map(|root| fs::read_dir(root).into_iter().flatten().flatten());
    let paths = groups.map(|entry| entry.path());
    let named = |path: &std::path::PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
    };
    paths.filter(named).map(|path| path.display().to_string()).collect()
}
