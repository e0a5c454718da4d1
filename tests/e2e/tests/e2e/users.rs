//! Pods with users of their own: root inside is nobody outside, files keep their owners, and no two pods share a number.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail, ensure};
use knarr_e2e::{
    Cluster,
    command::{PATIENCE, run_with},
    eventually,
    host::Footprint,
    image::BUSYBOX,
};
use serde_json::{Value, json};

use crate::Alone;

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![("pods_have_users_of_their_own", own_users)]
}

const BESIDE: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue}
---
apiVersion: v1
kind: Secret
metadata: {name: login}
stringData: {who: anna}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kept}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
";

/// A pod that serves what is in its scratch volume, and has one of each kind of volume that a node makes.
fn pod(name: &str, own: &Value) -> Value {
    let mounts = ["scratch", "fast", "settings", "login", "kept"]
        .map(|name| json!({"name": name, "mountPath": format!("/{name}")}));
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "hostUsers": false, "terminationGracePeriodSeconds": 1, "securityContext": {"fsGroup": 3000},
        "volumes": [
            {"name": "scratch", "emptyDir": {}}, {"name": "fast", "emptyDir": {"medium": "Memory"}},
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "login", "secret": {"secretName": "login", "defaultMode": 0o400}},
            {"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}},
        ],
        "containers": [{"name": "c", "image": BUSYBOX, "command": ["sh", "-c", "trap 'exit 1' USR1; httpd -f -p 8080 -h /scratch & wait"],
            "volumeMounts": mounts, "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}]}});
    pod["spec"]["containers"][0]["securityContext"] = own.clone();
    pod
}

fn says(cluster: &Cluster, ns: &str, name: &str, script: &str) -> Result<String> {
    cluster.kubectl_args(&["exec", name, "-n", ns, "--", "sh", "-c", script])
}

/// Makes a pod and gives the first of its block of the host's users.
fn made(cluster: &Cluster, ns: &str, pod: &Value) -> Result<u32> {
    cluster.apply(ns, &pod.to_string())?;
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    cluster.kubectl(&format!("wait pod/{name} -n {ns} --for=condition=Ready --timeout=60s"))?;
    block(cluster, ns, name)
}

fn block(cluster: &Cluster, ns: &str, name: &str) -> Result<u32> {
    let said = says(cluster, ns, name, "cat /proc/self/uid_map /proc/self/gid_map")?;
    let numbers: Vec<u32> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [0, users, 65_536, 0, groups, 65_536] if users == groups && users >= 65_536 => Ok(users),
        _ => bail!("{name}: {said}"),
    }
}

/// How many processes of this machine run as a user.
fn processes_of(user: u32) -> Result<usize> {
    let processes = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.metadata().ok());
    Ok(processes.filter(|process| process.uid() == user).count())
}

fn folder(cluster: &Cluster, ns: &str, name: &str) -> Result<PathBuf> {
    let pod = cluster.get(&format!("pod/{name} -n {ns}"))?;
    Ok(cluster.data_dir().join("pods").join(pod["metadata"]["uid"].as_str().context("no uid")?))
}

fn inside(cluster: &Cluster, ns: &str) -> Result<()> {
    for (script, expected) in [
        (
            "id -u; id -G; stat -c %u:%g / /bin/busybox /etc/hosts /dev/termination-log",
            "0\n0 3000\n0:0\n0:0\n0:0\n0:0\n",
        ),
        ("cat /settings/colour /login/who; stat -L -c ' %u %g %a' /login/who", "blueanna 0 3000 440\n"),
        ("grep -c '^ey.*[.].*[.]' /var/run/secrets/kubernetes.io/serviceaccount/token", "1\n"),
        ("for d in scratch fast kept; do touch /$d/f; stat -c %u:%g /$d/f; done", "0:3000\n0:3000\n0:3000\n"),
        ("chown 7:8 /kept/f; stat -c %u:%g /kept/f; echo last >/dev/termination-log", "7:8\n"),
        ("nslookup kubernetes.default.svc.cluster.local | grep -c 10.96.0.1$", "1\n"),
        (
            "mount -t tmpfs none /fast 2>/dev/null || echo refused; hostname x 2>/dev/null || echo refused",
            "refused\nrefused\n",
        ),
    ] {
        let said = says(cluster, ns, "one", script)?;
        ensure!(said == expected, "{script}: {said:?}");
    }
    let kubectl = cluster.kubectl_command(&[]);
    let line = format!("{} exec -it one -n {ns} -- sh", kubectl.get_program().to_string_lossy());
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &line, "/dev/null"]).env("KUBECONFIG", cluster.kubeconfig());
    let typed = "stat -c owner=%u:%g $(tty); echo seen=$((6*7)) >/dev/tty; exit 5\n";
    let said = run_with(&mut script, typed, PATIENCE)?;
    let has = |word| said.stdout.contains(word);
    ensure!(said.code == 5 && has("owner=0:5") && has("seen=42"), "{}", said.all());
    // Who is added to look at the pod is of its users as well.
    let look =
        ["--target=c", "-c", "look", "--", "sh", "-c", "cat /proc/self/uid_map /proc/1/uid_map; ls /proc/1/root/login"];
    let debug = ["debug", "one", "-n", ns, "--image", BUSYBOX].into_iter().chain(look);
    cluster.kubectl_args(&debug.collect::<Vec<_>>())?;
    eventually("the debugger's words", || {
        let said = cluster.kubectl(&format!("logs one -n {ns} -c look"))?;
        let lines: Vec<&str> = said.lines().collect();
        ensure!(lines.len() == 3 && lines[0] == lines[1] && lines[2] == "who", "{said:?}");
        Ok(())
    })
}

/// On the disk it is as if the pod's users were the host's; its processes are the block's.
fn outside(cluster: &Cluster, ns: &str, first: u32) -> Result<()> {
    let volumes = folder(cluster, ns, "one")?.join("volumes");
    let owner = |path: PathBuf| fs::metadata(&path).map(|file| (file.uid(), file.gid())).context(format!("{path:?}"));
    ensure!(owner(volumes.join("kubernetes.io~empty-dir/scratch/f"))? == (0, 3000), "the owner on the disk");
    let claim = cluster.get(&format!("pvc/kept -n {ns}"))?;
    let volume = cluster.get(&format!("pv/{}", claim["spec"]["volumeName"].as_str().unwrap_or_default()))?;
    let path = ["local", "hostPath"].iter().find_map(|kind| volume["spec"][kind]["path"].as_str());
    ensure!(owner(PathBuf::from(path.context("no path")?).join("f"))? == (7, 8), "the owner in the claim's volume");
    ensure!(processes_of(first)? > 0, "no process of the host's runs as {first}");
    Ok(())
}

/// All rights are worth what they are within the pod.
fn powers(cluster: &Cluster, ns: &str) -> Result<()> {
    let script = "mount -t tmpfs none /fast && echo mounted; hostname other && hostname; \
                  ip addr add 192.0.2.7/32 dev lo && echo given; \
                  (echo 1 >/proc/sys/vm/drop_caches) 2>/dev/null || echo refused; \
                  mknod /dev/x b 254 0 2>/dev/null || echo no device";
    let said = says(cluster, ns, "strong", script)?;
    ensure!(said == "mounted\nother\ngiven\nrefused\nno device\n", "{said:?}");
    ensure!(says(cluster, ns, "one", "hostname")? == "one\n", "another pod's name has changed");
    Ok(())
}

fn own_users() -> Result<()> {
    let before = Footprint::take()?;
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    let handlers = cluster.get("node/node-1")?["status"]["runtimeHandlers"].clone();
    ensure!(handlers[0]["features"]["userNamespaces"] == true, "{handlers}");
    let ns = cluster.namespace("users")?;
    cluster.apply(&ns, BESIDE)?;
    let first = made(&cluster, &ns, &pod("one", &json!({})))?;
    let second = made(&cluster, &ns, &pod("two", &json!({"runAsUser": 1000})))?;
    let strong = json!({"capabilities": {"add": ["ALL"]}});
    let third = made(&cluster, &ns, &pod("strong", &strong))?;
    ensure!(first != second && first != third && second != third, "{first} {second} {third}");
    inside(&cluster, &ns)?;
    outside(&cluster, &ns, first)?;
    powers(&cluster, &ns)?;
    ensure!(processes_of(second + 1000)? > 0, "no process of the host's runs as {second} + 1000");
    let address = cluster.get(&format!("pod/one -n {ns}"))?["status"]["podIP"].clone();
    let url = format!("wget -qO- http://{}:8080/f && echo fetched", address.as_str().unwrap_or_default());
    ensure!(says(&cluster, &ns, "two", &url)? == "fetched\n", "pods do not reach each other");

    // Who is killed forgets nothing, and the pods go on.
    cluster.kill()?;
    cluster.start()?;
    ensure!(block(&cluster, &ns, "one")? == first, "another block after the kill");
    let fourth = made(&cluster, &ns, &pod("late", &json!({})))?;
    ensure!(![first, second, third].contains(&fourth), "{fourth} is another pod's");
    // The shell ends with the container, so that what becomes of it says nothing.
    let _ = says(&cluster, &ns, "one", "kill -USR1 1");
    let status = format!("pod/one -n {ns}");
    cluster.expect(&status, "{.status.containerStatuses[0].restartCount}", "1")?;
    let ended = &cluster.get(&status)?["status"]["containerStatuses"][0]["lastState"]["terminated"];
    ensure!(ended["message"] == "last\n", "its last words: {ended}");
    cluster.kubectl(&format!("wait {status} --for=condition=Ready --timeout=60s"))?;
    ensure!(block(&cluster, &ns, "one")? == first, "another block after its restart");

    // What cannot be had is said, and what a pod had is free when it is gone.
    let mut device = pod("device", &json!({}));
    device["spec"]["volumes"][0] = json!({"name": "scratch", "hostPath": {"path": "/proc/sys"}});
    cluster.apply(&ns, &device.to_string())?;
    eventually("the event", || {
        let of = format!("get events -n {ns} --field-selector involvedObject.name=device,reason=Failed");
        let events = cluster.kubectl(&of)?;
        ensure!(events.contains("failed to set MOUNT_ATTR_IDMAP on /proc/sys: invalid argument"), "{events}");
        Ok(())
    })?;
    let gone = folder(&cluster, &ns, "one")?;
    cluster.kubectl(&format!("delete pod one device -n {ns}"))?;
    ensure!(!gone.exists() && processes_of(first)? == 0, "something of the pod is left");
    ensure!(made(&cluster, &ns, &pod("next", &json!({})))? == first, "the block is not free again");

    let run_dir = cluster.run_dir()?;
    let digest = run_dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    cluster.reset()?;
    let difference = before.of_one(&digest).difference(&Footprint::take()?.of_one(&digest));
    ensure!(difference.is_empty(), "left behind: {difference:#?}");
    Ok(())
}
