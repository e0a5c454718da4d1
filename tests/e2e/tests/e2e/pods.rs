//! Pods from close up: several containers, probes, and the streams into them.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use knarr_e2e::{Cluster, command, eventually, image::BUSYBOX};

use crate::{Shared, deployments::deploy_web};

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![
        ("two_containers_share_a_pod", two_containers),
        ("a_failed_liveness_probe_restarts", liveness),
        ("a_killed_process_comes_back", killed_process),
        ("init_containers_go_first", init_containers),
        ("logs_follow", logs_follow),
        ("exec_with_a_terminal", exec_terminal),
        ("exec_passes_streams_and_exit_codes", exec_streams),
        ("exec_and_logs_over_plain_web_sockets", plain_sockets),
        ("what_pods_use_is_scraped_with_a_token", scraped),
        ("cp_to_and_from", copy),
        ("port_forward", port_forward),
        ("attach", attach),
        ("a_pod_is_what_its_security_context_says", security),
        ("memory_beyond_the_limit_is_reported", oom),
        ("jobs_complete", jobs),
        ("a_pod_that_does_not_fit_says_why", unschedulable),
    ]
}

fn two_containers(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("two")?;
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: two}}\nspec:\n  volumes: [{{name: shared, emptyDir: {{}}}}]\n  containers:\n    \
         - {{name: web, image: {BUSYBOX}, command: [httpd, -f, -p, '8080', -h, /www], volumeMounts: [{{name: shared, mountPath: /www}}]}}\n    \
         - {{name: writer, image: {BUSYBOX}, command: [sh, -c, 'echo written > /www/index.html; sleep 1000'], volumeMounts: [{{name: shared, mountPath: /www}}]}}\n"
    );
    cluster.apply(&ns, &yaml)?;
    cluster.kubectl(&format!("wait pod/two -n {ns} --for=condition=Ready --timeout=60s"))?;
    let answer =
        cluster.kubectl(&format!("exec two -n {ns} -c writer -- timeout 5 wget -q -O- http://localhost:8080/"))?;
    ensure!(answer == "written\n", "{answer:?}");
    let table = cluster.kubectl(&format!("get pod two -n {ns}"))?;
    ensure!(table.contains("2/2"), "{table}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn liveness(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("liveness")?;
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: sick}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n    - name: c\n      image: {BUSYBOX}\n      \
         command: [sh, -c, 'touch /tmp/healthy; sleep 1000']\n      \
         livenessProbe: {{exec: {{command: [cat, /tmp/healthy]}}, periodSeconds: 1, failureThreshold: 1}}\n"
    );
    cluster.apply(&ns, &yaml)?;
    cluster.kubectl(&format!("wait pod/sick -n {ns} --for=condition=Ready --timeout=60s"))?;
    cluster.kubectl(&format!("exec sick -n {ns} -- rm /tmp/healthy"))?;
    cluster.expect(&format!("pod/sick -n {ns}"), "{.status.containerStatuses[0].restartCount}", "1")?;
    eventually("the events tell", || {
        let events = cluster.kubectl(&format!("get events -n {ns}"))?;
        ensure!(
            events.contains("Liveness probe failed") && events.contains("failed liveness probe, will be restarted"),
            "{events}"
        );
        Ok(())
    })?;
    let text = cluster.kubectl(&format!("describe pod sick -n {ns}"))?;
    for part in ["Restart Count:  1", "Last State:", "Exit Code:    137", "Liveness:", "Events:"] {
        ensure!(text.contains(part), "no {part:?} in:\n{text}");
    }
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn killed_process(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("killed")?;
    let marker = format!("sleep 987{}", std::process::id());
    cluster.kubectl_args(&[
        "run",
        "victim",
        "-n",
        &ns,
        "--image",
        BUSYBOX,
        "--",
        "sh",
        "-c",
        &format!("{marker}; exit 3"),
    ])?;
    cluster.kubectl(&format!("wait pod/victim -n {ns} --for=condition=Ready --timeout=60s"))?;
    command::succeed(Command::new("pkill").args(["-9", "-f", "-x", &marker]))?;
    cluster.expect(&format!("pod/victim -n {ns}"), "{.status.containerStatuses[0].restartCount}", "1")?;
    cluster.kubectl(&format!("wait pod/victim -n {ns} --for=condition=Ready --timeout=60s"))?;
    cluster.expect(
        &format!("pod/victim -n {ns}"),
        "{.status.containerStatuses[0].lastState.terminated.exitCode}",
        "3",
    )?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn init_containers(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("init")?;
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: staged}}\nspec:\n  restartPolicy: Never\n  volumes: [{{name: v, emptyDir: {{}}}}]\n  initContainers:\n    \
         - {{name: one, image: {BUSYBOX}, command: [sh, -c, 'echo one >> /v/order'], volumeMounts: [{{name: v, mountPath: /v}}]}}\n    \
         - {{name: sidecar, image: {BUSYBOX}, restartPolicy: Always, command: [sh, -c, 'echo sidecar >> /v/order; sleep 1000'], volumeMounts: [{{name: v, mountPath: /v}}], startupProbe: {{exec: {{command: [grep, sidecar, /v/order]}}, periodSeconds: 1}}}}\n    \
         - {{name: two, image: {BUSYBOX}, command: [sh, -c, 'echo two >> /v/order'], volumeMounts: [{{name: v, mountPath: /v}}]}}\n  containers:\n    \
         - {{name: main, image: {BUSYBOX}, command: [cat, /v/order], volumeMounts: [{{name: v, mountPath: /v}}]}}\n"
    );
    cluster.apply(&ns, &yaml)?;
    cluster.expect(&format!("pod/staged -n {ns}"), "{.status.phase}", "Succeeded")?;
    let log = cluster.kubectl(&format!("logs staged -n {ns} -c main"))?;
    ensure!(log == "one\nsidecar\ntwo\n", "{log:?}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn logs_follow(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("logs")?;
    let script = "for i in $(seq 1 20); do echo line $i; sleep 0.1; done";
    cluster.kubectl_args(&[
        "run",
        "talker",
        "-n",
        &ns,
        "--image",
        BUSYBOX,
        "--restart=Never",
        "--",
        "sh",
        "-c",
        script,
    ])?;
    eventually("the pod has started", || {
        let phase = cluster.kubectl(&format!("get pod talker -n {ns} -o jsonpath={{.status.phase}}"))?;
        if phase == "Pending" { bail!("{phase}") } else { Ok(()) }
    })?;
    let log = cluster.kubectl(&format!("logs -f talker -n {ns}"))?;
    let wanted: String = (1..=20).map(|i| format!("line {i}\n")).collect();
    ensure!(log == wanted, "{log}");
    let tail = cluster.kubectl(&format!("logs talker -n {ns} --tail=2 --timestamps"))?;
    ensure!(tail.lines().count() == 2 && tail.contains("Z line 20"), "{tail}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

/// A pod `box` that sleeps.
fn sleeper(cluster: &Cluster, prefix: &str) -> Result<String> {
    let ns = cluster.namespace(prefix)?;
    cluster.kubectl_args(&["run", "box", "-n", &ns, "--image", BUSYBOX, "--", "sleep", "1000"])?;
    cluster.kubectl(&format!("wait pod/box -n {ns} --for=condition=Ready --timeout=60s"))?;
    Ok(ns)
}

fn exec_terminal(cluster: &Cluster) -> Result<()> {
    let ns = sleeper(cluster, "tty")?;
    let kubectl = cluster.kubectl_command(&[]);
    let line = format!("{} exec -it box -n {ns} -- sh", kubectl.get_program().to_string_lossy());
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &line, "/dev/null"]).env("KUBECONFIG", cluster.kubeconfig());
    let said = command::run_with(&mut script, "stty size; tty; echo $((6*7)); exit 5\n", command::PATIENCE)?;
    ensure!(said.stdout.contains("/dev/pts/") && said.stdout.contains("42"), "{}", said.all());
    ensure!(said.code == 5, "exit code {}: {}", said.code, said.all());
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn exec_streams(cluster: &Cluster) -> Result<()> {
    let ns = sleeper(cluster, "exec")?;
    let mut exec =
        cluster.kubectl_command(&["exec", "-i", "box", "-n", &ns, "--", "sh", "-c", "cat; echo problem >&2; exit 7"]);
    let input = "a line of input\n".repeat(5000);
    let said = command::run_with(&mut exec, &input, command::PATIENCE)?;
    ensure!(said.stdout == input, "{} bytes came back of {}", said.stdout.len(), input.len());
    ensure!(said.stderr.contains("problem\n") && said.code == 7, "{} {}", said.code, said.stderr);
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

/// As upstream's conformance tests ask: with the protocols of clients that are older than kubectl's.
fn plain_sockets(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("sockets")?;
    let script = "echo container is alive; sleep 1000";
    cluster.kubectl_args(&["run", "box", "-n", &ns, "--image", BUSYBOX, "--", "sh", "-c", script])?;
    cluster.kubectl(&format!("wait pod/box -n {ns} --for=condition=Ready --timeout=60s"))?;
    cluster.kubectl(&format!("create rolebinding edit -n {ns} --clusterrole=edit --serviceaccount={ns}:default"))?;
    let token = cluster.kubectl(&format!("create token default -n {ns}"))?;
    let server = cluster.get_raw_config()?.server;
    for (path, protocol, expected) in [
        ("exec?stdout=1&stderr=1&command=echo&command=remote", "channel.k8s.io", &b"\x01remote\n"[..]),
        ("exec?stdout=1&stderr=1&command=echo&command=remote", "base64.channel.k8s.io", b"1cmVtb3RlCg=="),
        ("log?container=box", "binary.k8s.io", b"container is alive\n"),
        ("log?container=box", "base64.binary.k8s.io", b"Y29udGFpbmVyIGlzIGFsaXZlCg=="),
    ] {
        let url = format!("{server}/api/v1/namespaces/{ns}/pods/box/{path}");
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-k", "-i", "-N", "--http1.1", "--max-time", "20"]);
        for header in [
            &*format!("Authorization: Bearer {token}"),
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            &*format!("Sec-WebSocket-Protocol: {protocol}"),
        ] {
            curl.args(["-H", header]);
        }
        let said = curl.arg(&url).output()?.stdout;
        let text = String::from_utf8_lossy(&said);
        ensure!(text.starts_with("HTTP/1.1 101 "), "{path} {protocol}: {text}");
        ensure!(said.windows(expected.len()).any(|found| found == expected), "{path} {protocol}: {text}");
    }
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

/// A service account that may read metrics of nodes reads them at the node's own port, and nothing else.
fn scraped(cluster: &Cluster) -> Result<()> {
    let ns = sleeper(cluster, "scrape")?;
    let name = format!("scrape-{ns}");
    cluster.kubectl(&format!("create clusterrole {name} --verb=get --resource=nodes/metrics"))?;
    cluster.kubectl(&format!("create clusterrolebinding {name} --clusterrole={name} --serviceaccount={ns}:default"))?;
    let header = format!("Authorization: Bearer {}", cluster.kubectl(&format!("create token default -n {ns}"))?);
    let get = |path: &str| {
        let url = format!("https://{}:10250{path}", cluster.address());
        let mut curl = Command::new("curl");
        command::run(curl.args(["-sS", "-k", "-w", " %{http_code}", "-H", &header, &url]))
    };
    eventually("the pod's memory is told", || {
        let said = get("/metrics/cadvisor")?;
        for (family, least) in [
            ("container_memory_working_set_bytes", 1.0),
            ("container_memory_cache", 0.0),
            ("container_cpu_usage_seconds_total", 0.0),
        ] {
            let row = said.stdout.lines().find(|line| {
                line.starts_with(&format!("{family}{{container=\"box\""))
                    && line.contains(&format!("namespace=\"{ns}\""))
            });
            let value = row.and_then(|row| row.rsplit(' ').nth(1)?.parse::<f64>().ok());
            ensure!(value.is_some_and(|value| value >= least), "{family} in {}", said.all());
        }
        ensure!(said.stdout.contains("container_scrape_error 0\n"), "{}", said.all());
        Ok(())
    })?;
    let said = get("/pods")?;
    let why = format!(
        "Forbidden (user=system:serviceaccount:{ns}:default, verb=get, resource=nodes, subresource(s)=[pods proxy])"
    );
    ensure!(said.stdout.contains(&why) && said.stdout.ends_with(" 403"), "{}", said.all());
    cluster.kubectl(&format!("delete clusterrole,clusterrolebinding {name}"))?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn copy(cluster: &Cluster) -> Result<()> {
    let ns = sleeper(cluster, "cp")?;
    let (there, back) = (cluster.scratch().join("there.bin"), cluster.scratch().join("back.bin"));
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i * 31 % 251) as u8).collect();
    std::fs::write(&there, &bytes)?;
    cluster.kubectl(&format!("cp {} {ns}/box:/tmp/file.bin", there.display()))?;
    cluster.kubectl(&format!("cp {ns}/box:/tmp/file.bin {}", back.display()))?;
    ensure!(std::fs::read(&back)? == bytes, "the file came back changed");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn port_forward(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("forward")?;
    deploy_web(cluster, &ns)?;
    let forward =
        command::start(&mut cluster.kubectl_command(&["port-forward", "deployment/web", "-n", &ns, "18080:8080"]), "")?;
    for round in 0..5 {
        let answer = eventually("the forwarded port answers", || {
            let mut stream = TcpStream::connect("127.0.0.1:18080").context("connect")?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            ensure!(!answer.is_empty(), "an empty answer");
            Ok(answer)
        })?;
        ensure!(answer.contains("version=v1"), "request {round}: {answer}");
    }
    forward.kill()?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn attach(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("attach")?;
    let run = [
        "run",
        "echo",
        "-n",
        &ns,
        "--image",
        BUSYBOX,
        "-i",
        "--rm",
        "--restart=Never",
        "--",
        "sh",
        "-c",
        "read line; echo got $line",
    ];
    let said = command::run_with(&mut cluster.kubectl_command(&run), "something\n", command::PATIENCE)?;
    ensure!(said.stdout.contains("got something") && said.code == 0, "{}: {}", said.code, said.all());
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn security(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("security")?;
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n  securityContext: {{runAsUser: 1000, runAsGroup: 1000, fsGroup: 3000, seccompProfile: {{type: RuntimeDefault}}}}\n  \
         volumes: [{{name: v, emptyDir: {{}}}}]\n  containers:\n    - name: c\n      image: {BUSYBOX}\n      volumeMounts: [{{name: v, mountPath: /v}}]\n      \
         securityContext: {{readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}\n      \
         command: [sh, -c, 'id -u; id -G; stat -c %g /v; touch /x 2>&1; grep -E \"^(CapEff|NoNewPrivs|Seccomp):\" /proc/self/status; cat /proc/kcore 2>&1 | head -c 100; mount -t tmpfs t /tmp 2>&1']\n"
    );
    cluster.apply(&ns, &yaml)?;
    eventually("the pod has ended", || {
        let phase = cluster.kubectl(&format!("get pod p -n {ns} -o jsonpath={{.status.phase}}"))?;
        if phase == "Failed" || phase == "Succeeded" { Ok(()) } else { bail!("{phase}") }
    })?;
    let log = cluster.kubectl(&format!("logs p -n {ns}"))?;
    let lines: Vec<&str> = log.lines().collect();
    ensure!(lines[0] == "1000" && lines[1].split(' ').any(|g| g == "3000") && lines[2] == "3000", "{log}");
    ensure!(lines[3].contains("Read-only file system"), "{log}");
    ensure!(
        log.contains("CapEff:\t0000000000000000") && log.contains("NoNewPrivs:\t1") && log.contains("Seccomp:\t2"),
        "{log}"
    );
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn oom(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("oom")?;
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: hungry}}\nspec:\n  restartPolicy: Never\n  containers:\n    - name: c\n      image: {BUSYBOX}\n      \
         resources: {{limits: {{memory: 24Mi, cpu: 500m}}}}\n      command: [sh, -c, 'dd if=/dev/zero of=/dev/null bs=200M']\n"
    );
    cluster.apply(&ns, &yaml)?;
    cluster.expect(
        &format!("pod/hungry -n {ns}"),
        "{.status.containerStatuses[0].state.terminated.reason}",
        "OOMKilled",
    )?;
    cluster.expect(&format!("pod/hungry -n {ns}"), "{.status.qosClass}", "Guaranteed")?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn jobs(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("jobs")?;
    cluster.kubectl_args(&["create", "job", "once", "-n", &ns, "--image", BUSYBOX, "--", "echo", "done"])?;
    cluster.kubectl(&format!("wait job/once -n {ns} --for=condition=Complete --timeout=60s"))?;
    let table = cluster.kubectl(&format!("get jobs -n {ns}"))?;
    ensure!(table.contains("Complete") && table.contains("1/1"), "{table}");
    let log = cluster.kubectl(&format!("logs job/once -n {ns}"))?;
    ensure!(log == "done\n", "{log:?}");
    let yaml = format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: fails}}\nspec:\n  backoffLimit: 1\n  template:\n    spec:\n      restartPolicy: Never\n      \
         containers: [{{name: c, image: {BUSYBOX}, command: [sh, -c, 'exit 4']}}]\n"
    );
    cluster.apply(&ns, &yaml)?;
    cluster.expect(
        &format!("job/fails -n {ns}"),
        r#"{.status.conditions[?(@.type=="Failed")].reason}"#,
        "BackoffLimitExceeded",
    )?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn unschedulable(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("large")?;
    let overrides = r#"{"spec":{"containers":[{"name":"large","image":"x","resources":{"requests":{"cpu":"1000"}}}]}}"#;
    cluster.kubectl_args(&["run", "large", "-n", &ns, "--image=x", "--overrides", overrides])?;
    eventually("an event says why", || {
        let events = cluster.kubectl(&format!("get events -n {ns} --field-selector reason=FailedScheduling"))?;
        ensure!(events.contains("0/1 nodes are available: 1 Insufficient cpu."), "{events}");
        Ok(())
    })?;
    cluster.expect(
        &format!("pod/large -n {ns}"),
        r#"{.status.conditions[?(@.type=="PodScheduled")].reason}"#,
        "Unschedulable",
    )?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}
