//! The built-in Ingress, on a cluster of its own: it has the node's ports 80 and 443.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use knarr_e2e::{Cluster, Load, Local, eventually, host::outside, image::BUSYBOX};

use crate::{Alone, OnFive, deployments::deploy_web, services::old_pods_are_gone};

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![("an_ingress_serves_hosts_paths_tls_and_upgrades_and_loses_nothing", ingress)]
}

pub fn on_five() -> Vec<(&'static str, OnFive)> {
    vec![("every_node_answers_for_ingresses", every_node)]
}

/// Agents may read the certificate that an Ingress names, and a rule holds on all nodes.
fn every_node(five: &Local) -> Result<()> {
    let ns = five.namespace("ingress")?;
    let ca = make_certificate(five.scratch(), |line| five.kubectl(&format!("create secret tls shop -n {ns} {line}")))?;
    let rule = "shop.example/*=nobody:80,tls=shop";
    five.kubectl_args(&["create", "ingress", "shop", "-n", &ns, "--class", "knarr", "--rule", rule])?;
    let internal = "{.items[*].status.addresses[?(@.type==\"InternalIP\")].address}";
    let addresses = five.kubectl_args(&["get", "nodes", &format!("-o=jsonpath={internal}")])?;
    ensure!(addresses.split_whitespace().count() == 5, "{addresses}");
    for address in addresses.split_whitespace() {
        eventually(&format!("{address} answers"), || {
            let said = curl_at(address, "https://shop.example/", &["--cacert", &ca])?;
            if said == "503 Service Unavailable\n|503 2" { Ok(()) } else { bail!("{said:?}") }
        })?;
    }
    let shown = eventually("all addresses are shown", || {
        let path = "-o=jsonpath={.status.loadBalancer.ingress[*].ip}";
        let shown = five.kubectl_args(&["get", "ingress", "shop", "-n", &ns, path])?;
        if shown.split_whitespace().count() == 5 { Ok(shown) } else { bail!("{shown:?}") }
    })?;
    ensure!(addresses.split_whitespace().all(|address| shown.contains(address)), "{shown} of {addresses}");
    five.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

/// A certificate of its own authority, made a Secret by kubectl; gives the file to trust it by.
fn make_certificate(scratch: &Path, create: impl Fn(&str) -> Result<String>) -> Result<String> {
    let certificate = rcgen::generate_simple_self_signed(["shop.example".to_owned(), "*.wild.example".to_owned()])?;
    let (crt, key) = (scratch.join("tls.crt"), scratch.join("tls.key"));
    std::fs::write(&crt, certificate.cert.pem())?;
    std::fs::write(&key, certificate.signing_key.serialize_pem())?;
    create(&format!("--cert {} --key {}", crt.display(), key.display()))?;
    Ok(crt.display().to_string())
}

const RULES: &str = "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: fan-out}
spec:
  tls: [{hosts: [shop.example, '*.wild.example'], secretName: shop}]
  rules:
    - host: shop.example
      http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}
          - {path: /files, pathType: Prefix, backend: {service: {name: files, port: {number: 80}}}}
          - {path: /gone, pathType: Exact, backend: {service: {name: nobody, port: {number: 80}}}}
    - host: '*.wild.example'
      http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: files, port: {number: 80}}}}
    - host: talk.example
      http:
        paths:
          - {path: /, pathType: ImplementationSpecific, backend: {service: {name: talk, port: {number: 80}}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: default}
spec:
  rules: [{http: {paths: [{path: /, pathType: Exact, backend: {service: {name: web, port: {number: 80}}}}]}}]
";

/// Static files, and a server that switches protocols and then says everything back.
const FILES: &str = "mkdir -p /tmp/www/files; echo files > /tmp/www/files/index.html; echo root > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www";
const TALK: &str = "printf '%s\\n' 'while read -r line && [ ${#line} -gt 1 ]; do :; done' \
    'printf \"HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n\"' 'exec cat' > /tmp/talk; \
    while :; do nc -l -p 8080 -e sh /tmp/talk; done";

fn ingress() -> Result<()> {
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    let ns = cluster.namespace("ingress")?;
    deploy_web(&cluster, &ns)?;
    // A load balancer would take the node's port 80 for itself.
    cluster.kubectl(&format!("patch service web -n {ns} -p {{\"spec\":{{\"type\":\"ClusterIP\"}}}}"))?;
    for (name, script) in [("files", FILES), ("talk", TALK)] {
        cluster.kubectl_args(&["run", name, "-n", &ns, "--image", BUSYBOX, "--", "sh", "-c", script])?;
        cluster.kubectl(&format!("expose pod {name} -n {ns} --port 80 --target-port 8080"))?;
        cluster.kubectl(&format!("wait pod/{name} -n {ns} --for=condition=Ready --timeout=60s"))?;
    }
    let ca =
        make_certificate(cluster.scratch(), |line| cluster.kubectl(&format!("create secret tls shop -n {ns} {line}")))?;
    cluster.apply(&ns, RULES)?;
    let shown = "{.status.loadBalancer.ingress[0].ip}";
    cluster.expect(&format!("ingress/fan-out -n {ns}"), shown, cluster.address())?;
    let listed = cluster.kubectl(&format!("get ingress fan-out -n {ns} --no-headers"))?;
    ensure!(listed.contains("knarr") && listed.contains("80, 443"), "{listed}");
    routes(&cluster)?;
    encrypted(&cluster, &ca)?;
    upgraded(&cluster)?;
    update(&cluster, &ns)?;
    cluster.reset()?;
    Ok(())
}

/// One request by a name, from outside: status, protocol version, and body.
fn curl(cluster: &Cluster, url: &str, more: &[&str]) -> Result<String> {
    curl_at(cluster.address(), url, more)
}

fn curl_at(address: &str, url: &str, more: &[&str]) -> Result<String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let host = rest.split('/').next().unwrap_or_default();
    let port = if scheme == "https" { 443 } else { 80 };
    let place = format!("{host}:{port}:{address}");
    let mut command = outside("curl");
    command
        .args(["-sS", "--max-time", "5", "--resolve", &place, "-w", "|%{http_code} %{http_version}", url])
        .args(more);
    knarr_e2e::command::succeed(&mut command)
}

fn routes(cluster: &Cluster) -> Result<()> {
    eventually("the ingress answers", || curl(cluster, "http://shop.example/", &[]))?;
    for (url, start, end) in [
        ("http://shop.example/", "version=v1", "|200 1.1"),
        ("http://shop.example/files/", "files\n", "|200 1.1"),
        ("http://SHOP.example/files/", "files\n", "|200 1.1"),
        ("http://shop.example/filesystem", "", "|404 1.1"),
        ("http://shop.example/gone", "503 Service Unavailable\n", "|503 1.1"),
        ("http://a.wild.example/", "root\n", "|200 1.1"),
        ("http://other.example/", "version=v1", "|200 1.1"),
        ("http://other.example/else", "404 Not Found\n", "|404 1.1"),
    ] {
        eventually(url, || {
            let said = curl(cluster, url, &[])?;
            if said.starts_with(start) && said.ends_with(end) { Ok(()) } else { bail!("{said:?}") }
        })?;
    }
    Ok(())
}

fn encrypted(cluster: &Cluster, ca: &str) -> Result<()> {
    eventually("the certificate is shown", || curl(cluster, "https://shop.example/", &["--cacert", ca]))?;
    for (url, more, start, end) in [
        ("https://shop.example/", &["--http2"][..], "version=v1", "|200 2"),
        ("https://shop.example/files/", &["--http1.1"], "files\n", "|200 1.1"),
        ("https://b.wild.example/", &["--http2"], "root\n", "|200 2"),
    ] {
        let said = curl(cluster, url, &[&["--cacert", ca], more].concat())?;
        ensure!(said.starts_with(start) && said.ends_with(end), "{url}: {said:?}");
    }
    let refused = curl(cluster, "https://other.example/", &["--cacert", ca]);
    ensure!(refused.is_err(), "nobody vouches for other names: {refused:?}");
    let said = curl(cluster, "https://other.example/", &["--insecure"])?;
    ensure!(said.starts_with("version=v1"), "{said:?}");
    Ok(())
}

fn upgraded(cluster: &Cluster) -> Result<()> {
    eventually("a conversation", || {
        let mut stream = TcpStream::connect((cluster.address(), 80))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let ask = "GET /chat HTTP/1.1\r\nHost: talk.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(ask.as_bytes())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head)?;
        if !head.starts_with("HTTP/1.1 101 ") || !head.to_lowercase().contains("upgrade: websocket") {
            bail!("{head}");
        }
        for word in ["one\n", "two\n"] {
            stream.write_all(word.as_bytes())?;
            let mut back = [0; 4];
            stream.read_exact(&mut back)?;
            ensure!(back == word.as_bytes(), "{back:?}");
        }
        Ok(())
    })
}

fn update(cluster: &Cluster, ns: &str) -> Result<()> {
    let load = Load::start(&format!("{}:80", cluster.address()))?;
    for image in ["v2", "v1"] {
        cluster.kubectl(&format!("set image deployment/web -n {ns} web=knarr.local/demo:{image}"))?;
        cluster.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=60s"))?;
    }
    old_pods_are_gone(cluster, ns, 3)?;
    let report = load.stop()?;
    println!("through the ingress: {} answered {:?}", report.total(), report.answers);
    ensure!(report.failures.is_empty(), "{:?}", report.failures);
    ensure!(report.answers.len() == 2 && report.total() > 200, "{report:?}");
    Ok(())
}
