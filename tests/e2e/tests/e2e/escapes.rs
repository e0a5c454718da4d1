//! Pods that try the usual ways out, and to see what is not theirs: they get nothing. Where a refusal could have another
//! cause, a second container that is allowed to shows that the attempt itself works.

use std::{fs, os::unix::fs::MetadataExt, process::Command};

use anyhow::{Context, Result, bail, ensure};
use knarr_e2e::{
    Cluster,
    command::{run, succeed},
    eventually,
    host::HOST_IP,
    image::{BUSYBOX, PERL, write_perl},
};

use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![
        ("nothing_leads_out_of_a_container", nothing_leads_out),
        ("a_confined_container_gets_nothing_back", confined),
        ("keys_are_the_containers_own", keys),
        ("links_in_volumes_lead_nowhere", links),
        ("a_pod_without_credentials_is_told_nothing", credentials),
        ("what_opens_the_host_must_be_allowed", must_be_allowed),
    ]
}

/// Root without further rights, somebody confined, and the same with what is the default.
const CONTAINERS: &str = "
    - {name: root, image: PERL, command: [sleep, '98761']}
    - {name: confined, image: PERL, command: [sleep, '98762'], securityContext: {runAsUser: 1000,
       allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}}
    - {name: loose, image: PERL, command: [sleep, '98763'], securityContext: {runAsUser: 1000}}";

/// A pod of these containers in a namespace of its own.
fn attacker(cluster: &Cluster, prefix: &str) -> Result<String> {
    let archive = cluster.scratch().join("perl.tar");
    if !archive.exists() {
        write_perl(&archive)?;
        succeed(cluster.knarr("image import").arg(&archive))?;
    }
    let ns = cluster.namespace(prefix)?;
    let containers = CONTAINERS.replace("PERL", PERL);
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:{containers}\n"
    );
    cluster.apply(&ns, &yaml)?;
    cluster.kubectl(&format!("wait pod/p -n {ns} --for=condition=Ready --timeout=60s"))?;
    Ok(ns)
}

/// What a command in a container says, wherever it says it.
fn inside(cluster: &Cluster, ns: &str, container: &str, command: &[&str]) -> Result<String> {
    let mut all = vec!["exec", "p", "-n", ns, "-c", container, "--"];
    all.extend(command);
    Ok(run(&mut cluster.kubectl_command(&all))?.all())
}

/// Each command says GOT if it got what it should not, and else one of these words.
fn check_refused(cluster: &Cluster, ns: &str, container: &str, rows: &[(&str, &str)]) -> Result<()> {
    for (command, words) in rows {
        let said = inside(cluster, ns, container, &["sh", "-c", &format!("({command}) 2>&1")])?;
        let refused = words.split('|').any(|words| said.contains(words));
        ensure!(refused && !said.contains("GOT"), "{container}: {command}: {said}");
    }
    Ok(())
}

fn nothing_leads_out(cluster: &Cluster) -> Result<()> {
    let ns = attacker(cluster, "escape")?;
    let disk = fs::metadata(cluster.data_dir())?;
    let (major, minor) = (disk.dev() >> 8 & 0xfff, disk.dev() & 0xff);
    let disk = format!("mknod /dev/d b {major} {minor} && head -c1 /dev/d && echo GOT");
    let folders = format!("ls /run/knarr {} && echo GOT", cluster.data_dir().display());
    let denied = "not permitted|denied";
    // What is written is what is there already, so that the host stays as it is should one succeed.
    let rewrite = "cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern && echo GOT";
    let own_namespace = format!(
        "unshare -Urm sh -c 'umount -l /proc/sys; mount -o remount,bind,rw /proc/sys; {rewrite}; \
         mount -t proc p /tmp && echo GOT; mount -t sysfs s /tmp && echo GOT; mount -t cgroup2 c /tmp && echo GOT'"
    );
    let rows = [
        (
            "head -c1 /proc/kcore && echo GOT; cat /proc/keys /proc/timer_list /proc/interrupts /proc/sched_debug | wc -c",
            "0",
        ),
        (
            "ls -A /proc/acpi /proc/scsi /proc/asound /sys/firmware /sys/devices/virtual/powercap 2>/dev/null | grep -v -e : -e ^$ && echo GOT; echo -",
            "-",
        ),
        (rewrite, "Read-only"),
        ("echo h > /proc/sysrq-trigger && echo GOT", "can't create"),
        ("echo 0 > /sys/kernel/mm/ksm/run && echo GOT", "can't create"),
        ("mkdir /sys/fs/cgroup/x && echo GOT", "Read-only"),
        ("mkdir /sys/fs/cgroup/memory/x && echo GOT", "Read-only|No such file"),
        ("mount -t tmpfs t /tmp && echo GOT", denied),
        ("mount -o remount,rw /sys && echo GOT", denied),
        ("umount /proc/sys && echo GOT", denied),
        ("unshare -m true && echo GOT", denied),
        ("nsenter -t 1 -m true && echo GOT", denied),
        (&own_namespace, "Invalid argument|not permitted|denied"),
        (&disk, denied),
        ("mknod /dev/m c 1 1 && head -c1 /dev/m && echo GOT", denied),
        ("mknod /dev/k c 1 11 && head -c1 /dev/k && echo GOT", denied),
        ("mknod /dev/f c 10 229 && head -c1 /dev/f && echo GOT", denied),
        ("reboot -f && echo GOT", denied),
        ("hostname x && echo GOT", denied),
        ("echo -1000 > /proc/self/oom_score_adj && echo GOT", denied),
        (&folders, "No such file"),
        ("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q '[k]narr' && echo GOT; echo -", "-"),
        (
            "find / -name knarr -o -name admin.kubeconfig -o -name '*.sock' 2>/dev/null | grep . && echo GOT; echo -",
            "-",
        ),
        // Neither what is started nor what is executed later inherits anything that is open.
        ("ls -l /proc/1/fd /proc/$$/fd | grep -e '->' | grep -v -e pipe: -e /dev/null && echo GOT; echo -", "-"),
        ("grep '@' /proc/net/unix && echo GOT; echo -", "-"),
    ];
    check_refused(cluster, &ns, "root", &rows)?;
    // Another pod's files, which it has in its own layer, in memory and in a volume.
    let name = format!("secret-of-{ns}");
    let other = cluster.namespace("other")?;
    let overrides = format!(
        r#"{{"spec":{{"volumes":[{{"name":"v","emptyDir":{{}}}}],"containers":[{{"name":"p","image":"{BUSYBOX}",
        "command":["sh","-c","touch /tmp/{name} /v/{name} /dev/shm/{name}; sleep 1000"],"volumeMounts":[{{"name":"v","mountPath":"/v"}}]}}]}}}}"#
    );
    cluster.kubectl_args(&["run", "p", "-n", &other, "--image", BUSYBOX, "--overrides", &overrides])?;
    let find = format!("find / -name {name} 2>/dev/null");
    eventually("the other has its files", || {
        let found = inside(cluster, &other, "p", &["sh", "-c", &find])?;
        // Its own processes lead to its files once more.
        let own = found.lines().filter(|line| !line.starts_with("/proc")).count();
        if own == 3 { Ok(()) } else { bail!("{found}") }
    })?;
    let found = inside(cluster, &ns, "root", &["sh", "-c", &find])?;
    ensure!(found.trim().is_empty(), "{found}");
    cluster.kubectl(&format!("delete namespace {ns} {other} --wait=false"))?;
    Ok(())
}

/// System calls' numbers: of amd64, and of everything newer.
const fn number(amd64: u32, others: u32) -> u32 {
    if cfg!(target_arch = "x86_64") { amd64 } else { others }
}

/// Perl that makes one system call and prints what came of it.
fn call(numbers: (u32, u32), arguments: &str) -> String {
    let number = number(numbers.0, numbers.1);
    format!(
        "$s = 'user'; $d = 'knarr-test'; $b = pack('Ii', 8, 1) . \"\\0\" x 64; $n = syscall({number}, {arguments}); print $n < 0 ? $! : 'GOT'"
    )
}

fn confined(cluster: &Cluster) -> Result<()> {
    let ns = attacker(cluster, "confined")?;
    // Whether root, with the default's capabilities and calls, is refused as well.
    for (what, numbers, arguments, root_too) in [
        ("packet sockets", (41, 198), "17, 3, 768", false),
        ("raw sockets", (41, 198), "2, 3, 1", false),
        ("keys", (248, 217), "$s, $d, $d, 5, -3", false),
        ("a user namespace", (272, 97), "0x10000000", false),
        ("a mount namespace", (272, 97), "0x20000", true),
        ("files by handle", (304, 265), "-100, $b, 0", true),
        ("the kernel's log", (103, 116), "3, $b, 8", true),
        ("process accounting", (163, 89), "0", true),
    ] {
        let code = call(numbers, arguments);
        let said = inside(cluster, &ns, "confined", &["perl", "-e", &code])?;
        ensure!(said == "Operation not permitted", "{what}: {said}");
        let said = inside(cluster, &ns, "root", &["perl", "-e", &code])?;
        ensure!((said == "GOT") != root_too, "{what}, as root: {said}");
    }
    for (container, users) in [("loose", "1000 0"), ("confined", "1000 1000")] {
        let said = inside(cluster, &ns, container, &["perl-as-root", "/users.pl"])?;
        ensure!(said == users, "{container}: a setuid program makes the users {said}");
    }
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

/// A key of one container is not found by another of the same user, nor in the session of the agent.
fn keys(cluster: &Cluster) -> Result<()> {
    let ns = attacker(cluster, "keys")?;
    let add = call((248, 217), "$s, $d, $d, 5, -3");
    let search = call((250, 219), "10, -3, $s, $d, 0");
    let both = format!("{add}; {search}");
    let said = inside(cluster, &ns, "loose", &["perl", "-e", &both])?;
    ensure!(said == "GOTGOT", "a container has no keys at all: {said}");
    for container in ["loose", "root"] {
        // Another session of the same container does not have it, either: it went with its last process.
        let said = inside(cluster, &ns, container, &["perl", "-e", &search])?;
        ensure!(said.contains("key not available") || said.contains("No such"), "{container}: {said}");
    }
    let mut here = Command::new("perl");
    let said = succeed(here.args(["-e", &search]))?;
    ensure!(said != "GOT", "the host has the container's key");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn links(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("links")?;
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  volumes: [{{name: v, emptyDir: {{}}}}]\n  initContainers:\n    \
         - {{name: lay, image: '{BUSYBOX}', volumeMounts: [{{name: v, mountPath: /v}}],\n       \
         command: [sh, -c, 'ln -s / /v/root; ln -s ../../../../../../../../../../etc /v/up; ln -s /proc/self/fd /v/fd; mkdir /v/in']}}\n  containers:\n    \
         - {{name: plain, image: '{BUSYBOX}', command: [sleep, '1000'], volumeMounts: [{{name: v, mountPath: /x, subPath: in}}]}}\n    \
         - {{name: root, image: '{BUSYBOX}', command: [sleep, '1000'], volumeMounts: [{{name: v, mountPath: /x, subPath: root/etc}}]}}\n    \
         - {{name: up, image: '{BUSYBOX}', command: [sleep, '1000'], volumeMounts: [{{name: v, mountPath: /x, subPath: up}}]}}\n    \
         - {{name: fd, image: '{BUSYBOX}', command: [sleep, '1000'], volumeMounts: [{{name: v, mountPath: /x, subPath: fd/9}}]}}\n    \
         - {{name: folder, image: '{BUSYBOX}', command: [sleep, '1000'], workingDir: /proc/self/fd/8}}\n"
    );
    cluster.apply(&ns, &yaml)?;
    let config = "CreateContainerConfigError";
    for (container, state) in
        [("plain", ""), ("root", config), ("up", config), ("fd", config), ("folder", "CreateContainerError")]
    {
        let path = format!("{{.status.containerStatuses[?(@.name==\"{container}\")].state.waiting.reason}}");
        cluster.expect(&format!("pod/p -n {ns}"), &path, state).with_context(|| container.to_owned())?;
    }
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

/// Asks from the network of a pod, as anything that runs in it could.
fn ask(pid: &str, url: &str, token: Option<&str>) -> Result<String> {
    let mut curl = Command::new("nsenter");
    curl.arg(format!("--net=/proc/{pid}/ns/net")).args(["curl", "-sk", "--max-time", "5", "-o", "/dev/null"]);
    curl.args(["-w", "%{http_code}", url]);
    if let Some(token) = token {
        curl.arg("-H").arg(format!("Authorization: Bearer {token}"));
    }
    Ok(run(&mut curl)?.stdout)
}

fn credentials(cluster: &Cluster) -> Result<()> {
    let ns = attacker(cluster, "credentials")?;
    let pid = succeed(Command::new("pgrep").args(["-f", "-x", "sleep 98762"]))?.trim().to_owned();
    let token = inside(cluster, &ns, "root", &["cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"])?;
    let (agent, api) = (format!("https://{HOST_IP}:10250"), "https://10.96.0.1");
    for (url, nobody, account) in [
        (format!("{agent}/pods"), "401", "403"),
        (format!("{agent}/metrics"), "401", "403"),
        (format!("{agent}/configz"), "401", "403"),
        (format!("{agent}/containerLogs/{ns}/p/root"), "401", "403"),
        (format!("{agent}/exec/{ns}/p/root?command=id&output=1"), "401", "403"),
        (format!("{agent}/logs/"), "401", "403"),
        (format!("{api}/api/v1/secrets"), "401", "403"),
        (format!("{api}/api/v1/namespaces/{ns}/pods"), "401", "403"),
        (format!("{api}/api/v1/nodes/node-1/proxy/pods"), "401", "403"),
        (format!("{api}/debug/pprof/"), "401", "403"),
        // Nothing of the host's own loopback is here, and the old port without credentials is nowhere.
        ("https://127.0.0.1:6443/readyz".to_owned(), "000", "000"),
        (format!("http://{HOST_IP}:10255/pods"), "000", "000"),
        (format!("http://{HOST_IP}:10248/healthz"), "000", "000"),
    ] {
        let said = (ask(&pid, &url, None)?, ask(&pid, &url, Some(&token))?);
        ensure!((said.0.as_str(), said.1.as_str()) == (nobody, account), "{url}: {said:?}");
    }
    // A port that a pod listens on is not the host's.
    let served = "command: [httpd, -f, -p, '18099']";
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{containers: [{{name: c, image: '{BUSYBOX}', {served}}}]}}\n"
    );
    cluster.apply(&ns, &yaml)?;
    cluster.kubectl(&format!("wait pod/web -n {ns} --for=condition=Ready --timeout=60s"))?;
    let ip = cluster.kubectl(&format!("get pod web -n {ns} -o jsonpath={{.status.podIP}}"))?;
    let from_the_pod = |url: &str| ask(&pid, url, None);
    eventually("the pod serves", || {
        let said = from_the_pod(&format!("http://{ip}:18099/"))?;
        if said == "404" { Ok(()) } else { bail!("{said}") }
    })?;
    let said = from_the_pod(&format!("http://{HOST_IP}:18099/"))?;
    ensure!(said == "000", "the host serves it, too: {said}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

/// Where the namespace does not allow them, wishes that open the host are refused before they reach a node.
fn must_be_allowed(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("baseline")?;
    cluster.kubectl(&format!("label namespace {ns} pod-security.kubernetes.io/enforce=baseline"))?;
    for (wish, own) in [
        ("volumes: [{name: v, hostPath: {path: /}}]", ""),
        ("hostNetwork: true", ""),
        ("hostPID: true", ""),
        ("hostIPC: true", ""),
        ("", "ports: [{containerPort: 1, hostPort: 1}]"),
        ("", "securityContext: {privileged: true}"),
        ("", "securityContext: {capabilities: {add: [SYS_ADMIN]}}"),
        ("securityContext: {sysctls: [{name: kernel.msgmax, value: '1'}]}", ""),
    ] {
        let spec = format!("{{containers: [{{name: c, image: '{BUSYBOX}', {own}}}]");
        let spec = if wish.is_empty() { format!("{spec}}}") } else { format!("{spec}, {wish}}}") };
        let path = cluster.scratch().join("wish.yaml");
        fs::write(&path, format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {spec}\n"))?;
        let said = cluster.kubectl_fails(&format!("apply -n {ns} -f {}", path.display()))?;
        ensure!(said.contains("violates PodSecurity \"baseline:latest\""), "{wish}{own}: {said}");
    }
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}
