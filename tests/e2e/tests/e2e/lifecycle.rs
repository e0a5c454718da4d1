//! The process itself: start, stop, kill, reset.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use anyhow::{Result, ensure};
use knarr_e2e::{
    Cluster,
    command::{run, succeed},
    host::Footprint,
    image::BUSYBOX,
};

use crate::Alone;

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![
        ("reset_leaves_the_host_as_found", reset_leaves_the_host_as_found),
        ("pods_outlive_a_kill", pods_outlive_a_kill),
        ("a_second_cluster_is_refused_and_disturbs_nothing", a_second_cluster_is_refused_and_disturbs_nothing),
        ("what_is_left_of_half_a_cluster_is_reset", what_is_left_of_half_a_cluster_is_reset),
        ("the_users_kubeconfig_is_given_back", the_users_kubeconfig_is_given_back),
    ]
}

fn reset_leaves_the_host_as_found() -> Result<()> {
    let before = Footprint::take()?;
    let mut cluster = Cluster::new()?;
    let took = cluster.start()?;
    println!("node Ready after {} ms", took.as_millis());
    for closed in [cluster.data_dir(), cluster.run_dir()?] {
        let mode = fs::metadata(&closed)?.permissions().mode() & 0o777;
        ensure!(mode == 0o700, "{} has the mode {mode:o}: others may look into it", closed.display());
    }
    let ns = cluster.namespace("reset")?;
    cluster.kubectl(&format!("create deployment web -n {ns} --image=knarr.local/demo:v1 --replicas=2 --port=8080"))?;
    cluster.kubectl(&format!("expose deployment web -n {ns} --type=NodePort --port=80 --target-port=8080"))?;
    cluster.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=60s"))?;
    cluster.reset()?;
    let difference = before.difference(&Footprint::take()?);
    ensure!(difference.is_empty(), "left behind:\n{}", difference.join("\n"));
    ensure!(!cluster.data_dir().exists(), "the data directory is still there");
    Ok(())
}

fn pods_outlive_a_kill() -> Result<()> {
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    let ns = cluster.namespace("kill")?;
    cluster.kubectl_args(&[
        "run",
        "steady",
        "-n",
        &ns,
        "--image",
        BUSYBOX,
        "--",
        "sh",
        "-c",
        "while true; do sleep 1; done",
    ])?;
    cluster.kubectl(&format!("wait pod/steady -n {ns} --for=condition=Ready --timeout=60s"))?;
    let pids = || run(Command::new("pgrep").args(["-f", "while true; do sleep 1"])).map(|said| said.stdout);
    let before = pids()?;
    ensure!(!before.trim().is_empty(), "the container's process was not found");
    for _ in 0..3 {
        cluster.kill()?;
        cluster.start()?;
    }
    ensure!(pids()? == before, "the container's processes changed: {before:?} to {:?}", pids()?);
    let pod = cluster.get(&format!("pod/steady -n {ns}"))?;
    ensure!(pod["status"]["containerStatuses"][0]["restartCount"] == 0, "{}", pod["status"]);
    Ok(())
}

fn a_second_cluster_is_refused_and_disturbs_nothing() -> Result<()> {
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    let beside = Cluster::new()?;
    let first = cluster.data_dir().display().to_string();
    let refused = run(beside.knarr("up").args(["--port", "7443", "--node-port", "10251"]))?;
    ensure!(refused.code == 1 && refused.all().contains(&first), "{}", refused.all());
    ensure!(!beside.data_dir().exists(), "the refused cluster made something");
    let links = || succeed(Command::new("ip").args(["-o", "addr", "show"]));
    let before = links()?;
    let said = run(&mut beside.knarr("reset --yes"))?;
    ensure!(said.code == 0, "{}", said.all());
    ensure!(links()? == before, "the reset of one cluster changed another's network: {before}\nto {}", links()?);
    // The table is there still: the API answers at the address of its Service.
    let host = run(Command::new("curl").args(["-sk", "https://10.96.0.1/readyz"]))?;
    ensure!(host.stdout == "ok", "{}", host.all());

    let again = run(&mut cluster.knarr("up --detach"))?;
    let owner = format!("in use by process {}", cluster.pid().unwrap_or(0));
    ensure!(again.code == 1 && again.all().contains(&owner), "{}", again.all());
    let status = run(&mut cluster.knarr("status"))?;
    ensure!(status.code == 0 && status.stdout.contains("node-1 Ready"), "{}", status.all());
    Ok(())
}

fn what_is_left_of_half_a_cluster_is_reset() -> Result<()> {
    let before = Footprint::take()?;
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    let ns = cluster.namespace("half")?;
    cluster.kubectl(&format!("run web -n {ns} --image=knarr.local/demo:v1"))?;
    cluster.kubectl(&format!("wait pod/web -n {ns} --for=condition=Ready --timeout=60s"))?;
    cluster.kill()?;
    for gone in ["lock", "cluster.json", "admin.kubeconfig"] {
        fs::remove_file(cluster.data_dir().join(gone))?;
    }
    for gone in ["store", "pki", "net", "runtime/sandboxes"] {
        fs::remove_dir_all(cluster.data_dir().join(gone))?;
    }
    cluster.reset()?;
    let left = before.difference(&Footprint::take()?);
    // What the kernel was told before is known from `net`, which is gone.
    let left: Vec<&String> = left.iter().filter(|line| !line.contains("ip_forward")).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    ensure!(!cluster.data_dir().exists(), "the data directory is still there");
    let nothing = run(&mut cluster.knarr("reset"))?;
    ensure!(nothing.code == 0 && nothing.stdout.contains("no cluster"), "{}", nothing.all());
    Ok(())
}

fn the_users_kubeconfig_is_given_back() -> Result<()> {
    let mut cluster = Cluster::new()?;
    let path = cluster.scratch().join("user.kubeconfig");
    let before = "# mine\napiVersion: v1\nkind: Config\ncurrent-context: work # the office\nclusters: []\n\
        users: []\ncontexts:\n- name: work\n  context: {cluster: work, user: me}\n";
    fs::write(&path, before)?;
    cluster.start()?;
    let path = path.display().to_string();
    let nodes = cluster.kubectl_args(&["--kubeconfig", &path, "--context", "knarr", "get", "nodes", "-o", "name"])?;
    ensure!(nodes.trim() == "node/node-1", "{nodes}");
    ensure!(fs::read_to_string(&path)?.contains("current-context: work # the office"), "the context was changed");
    cluster.reset()?;
    let after = fs::read_to_string(&path)?;
    ensure!(after == before, "{after}");
    Ok(())
}
