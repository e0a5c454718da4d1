//! Probes of every kind that fail and come back, and what follows from that.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use knarr_e2e::{Cluster, eventually, host::HOST_IP, image::BUSYBOX};

use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("probes_by_http_tcp_and_command", by_http_tcp_and_command), ("probes_by_grpc", by_grpc)]
}

const SERVING: u8 = 1;
const NOT_SERVING: u8 = 2;

fn pods(grpc: u16) -> Vec<String> {
    let yaml = include_str!("probed.yaml").replace("IMAGE", BUSYBOX).replace("GRPC", &grpc.to_string());
    yaml.split("---\n").map(str::to_owned).collect()
}

fn told(cluster: &Cluster, ns: &str, words: &str) -> Result<()> {
    eventually(words, || {
        let events = cluster.kubectl(&format!("get events -n {ns}"))?;
        ensure!(events.contains(words), "{events}");
        Ok(())
    })
}

/// `READY RESTARTS STARTED` of a container.
fn container(cluster: &Cluster, pod: &str, name: &str, wanted: &str) -> Result<()> {
    let status = format!("{{range .status.containerStatuses[?(@.name==\"{name}\")]}}");
    cluster.expect(pod, &format!("{status}{{.ready}} {{.restartCount}} {{.started}}{{end}}"), wanted)
}

fn by_http_tcp_and_command(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("probes")?;
    cluster.apply(&ns, &pods(0)[0])?;
    let pod = format!("pod/probed -n {ns}");
    container(cluster, &pod, "late", "false 0 false")?;
    container(cluster, &pod, "late", "true 1 true")?;
    cluster.kubectl(&format!("wait {pod} --for=condition=Ready --timeout=60s"))?;
    told(cluster, &ns, "Container late failed startup probe, will be restarted")?;
    told(cluster, &ns, "Startup probe failed: cat: can't open '/tmp/up': No such file or directory")?;
    let events = cluster.kubectl(&format!("get events -n {ns}"))?;
    ensure!(!events.contains("Liveness probe"), "asked of a container that has not started: {events}");

    let exec = |container: &str, command: &str| {
        cluster.kubectl_args(&["exec", "probed", "-n", &ns, "-c", container, "--", "sh", "-c", command])
    };
    let why = "{.status.conditions[?(@.type==\"Ready\")].message}";
    exec("web", "rm /www/ok")?;
    cluster.expect(&pod, why, "containers with unready status: [web]")?;
    told(cluster, &ns, "Readiness probe failed: HTTP probe failed with statuscode: 404")?;
    exec("web", "touch /www/ok")?;
    cluster.expect(&pod, why, "")?;
    container(cluster, &pod, "web", "true 0 true")?;
    exec("web", "rm /www/alive")?;
    container(cluster, &pod, "web", "true 1 true")?;
    told(cluster, &ns, "Liveness probe failed: HTTP probe failed with statuscode: 404")?;
    told(cluster, &ns, "Container web failed liveness probe, will be restarted")?;

    let ip = cluster.get(&pod)?["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    exec("port", "kill $(cat /tmp/pid)")?;
    container(cluster, &pod, "port", "true 1 true")?;
    told(cluster, &ns, &format!("Liveness probe failed: dial tcp {ip}:9000: connect: connection refused"))?;
    container(cluster, &pod, "late", "true 1 true")?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn by_grpc(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("grpc")?;
    let listener = TcpListener::bind((HOST_IP, 0))?;
    let port = listener.local_addr()?.port();
    let (ready, alive) = (Arc::new(AtomicU8::new(NOT_SERVING)), Arc::new(AtomicU8::new(SERVING)));
    let answers = (ready.clone(), alive.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (ready, alive) = &answers;
            _ = answer(stream, |body| {
                let asked = if body.ends_with(b"alive") { alive } else { ready };
                asked.load(Ordering::Relaxed)
            });
        }
    });
    cluster.apply(&ns, &pods(port)[1])?;
    let pod = format!("pod/called -n {ns}");
    container(cluster, &pod, "c", "false 0 true")?;
    told(cluster, &ns, "Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")")?;
    ready.store(SERVING, Ordering::Relaxed);
    container(cluster, &pod, "c", "true 0 true")?;
    alive.store(NOT_SERVING, Ordering::Relaxed);
    told(cluster, &ns, "Container c failed liveness probe, will be restarted")?;
    alive.store(SERVING, Ordering::Relaxed);
    container(cluster, &pod, "c", "true 1 true")?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Answers one call of `grpc.health.v1.Health/Check` with a status: HTTP/2 (RFC 9113) as far as that needs it.
fn answer(mut stream: TcpStream, status: impl Fn(&[u8]) -> u8) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.read_exact(&mut [0; 24])?;
    let (call, body) = loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let mut body = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut body)?;
        if head[3] == DATA && head[4] & END_STREAM != 0 {
            break ([head[5], head[6], head[7], head[8]], body);
        }
    };
    let mut said = Vec::new();
    let mut frame = |kind: u8, flags: u8, stream: [u8; 4], body: &[u8]| {
        said.extend([0, 0, u8::try_from(body.len()).unwrap_or(u8::MAX), kind, flags]);
        said.extend(stream);
        said.extend(body);
    };
    frame(SETTINGS, 0, [0; 4], b"");
    frame(SETTINGS, 1, [0; 4], b"");
    // `:status` 200 and `content-type` by their places in the static table of HPACK.
    frame(HEADERS, END_HEADERS, call, b"\x88\x0f\x10\x10application/grpc");
    frame(DATA, 0, call, &[0, 0, 0, 0, 2, 8, status(&body)]);
    frame(HEADERS, END_HEADERS | END_STREAM, call, b"\x00\x0bgrpc-status\x010");
    stream.write_all(&said)?;
    // Until the client has read it and goes.
    _ = stream.read_to_end(&mut Vec::new());
    Ok(())
}
