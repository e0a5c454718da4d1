//! The examples that courses teach with, as they are in `examples/`: they come up, serve, and keep what they were given.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, Result, bail, ensure};
use knarr_e2e::{Clients, Local, command::succeed, debian, eventually, host::outside};

use crate::{OnFive, services::balancer};

pub fn on_five() -> Vec<(&'static str, OnFive)> {
    vec![
        ("guestbook", guestbook),
        ("wordpress_keeps_its_posts", wordpress),
        ("a_ring_keeps_names_and_data", cassandra),
        ("an_ingress_fans_out", fan_out),
    ]
}

/// A namespace with an example in it, and its images on every node.
fn start(cluster: &Local, example: &str) -> Result<String> {
    let archive = debian::images(&cluster.cache("debian"))?;
    succeed(cluster.knarr("cluster import").arg(archive))?;
    let ns = cluster.namespace(example)?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/{example}.yaml"));
    cluster.kubectl(&format!("apply -n {ns} -f {}", file.display()))?;
    Ok(ns)
}

fn end(cluster: &Clients, ns: &str) -> Result<()> {
    cluster.kubectl(&format!("delete namespace {ns} --wait=false")).map(drop)
}

fn rolled_out(cluster: &Clients, ns: &str, what: &[&str]) -> Result<()> {
    for what in what {
        cluster.kubectl(&format!("rollout status {what} -n {ns} --timeout=55s"))?;
    }
    Ok(())
}

/// A request from outside; `more` are further arguments of curl.
fn curl(target: SocketAddr, path: &str, more: &[&str]) -> Result<String> {
    let url = format!("http://{target}{path}");
    succeed(outside("curl").args(["-sS", "--fail", "--max-time", "20"]).args(more).arg(url))
}

fn guestbook(cluster: &Local) -> Result<()> {
    let ns = start(cluster, "guestbook")?;
    rolled_out(cluster, &ns, &["deploy/redis-leader", "deploy/redis-follower", "deploy/frontend"])?;
    let front = balancer(cluster, &ns, "frontend", 8081)?;
    for entry in ["ahoj", "moin"] {
        let said = curl(front, &format!("/?entry={entry}"), &[])?;
        ensure!(said.starts_with("written by frontend-"), "{said}");
    }
    // Followers are a moment behind.
    eventually("both entries are shown", || {
        let page = curl(front, "/", &[])?;
        if page.contains("<li>ahoj</li>\n<li>moin</li>") { Ok(()) } else { bail!("{page}") }
    })?;
    end(cluster, &ns)
}

fn wordpress(cluster: &Local) -> Result<()> {
    let ns = start(cluster, "wordpress")?;
    let both = ["deploy/wordpress-mysql", "deploy/wordpress"];
    rolled_out(cluster, &ns, &both)?;
    let front = balancer(cluster, &ns, "wordpress", 8082)?;
    let form = "weblog_title=Ship&user_name=admin&admin_password=change-me-soon&admin_password2=change-me-soon\
                &pw_weak=on&admin_email=a%40example.org&blog_public=0";
    let said = curl(front, "/wp-admin/install.php?step=2", &["--data", form])?;
    ensure!(said.contains("<h1>Success!</h1>"), "{said}");
    let title = || -> Result<()> {
        let page = curl(front, "/", &[])?;
        if page.contains("<title>Ship</title>") { Ok(()) } else { bail!("{page}") }
    };
    title()?;
    // New pods, the same volumes.
    cluster.kubectl(&format!("delete pod -n {ns} -l app=wordpress"))?;
    rolled_out(cluster, &ns, &both)?;
    eventually("the blog is what it was", title)?;
    end(cluster, &ns)
}

fn cassandra(cluster: &Local) -> Result<()> {
    let ns = start(cluster, "cassandra")?;
    rolled_out(cluster, &ns, &["statefulset/cassandra"])?;
    let cli = |pod: &str, words: &[&str]| {
        let exec = ["exec", "-n", &ns, pod, "--", "redis-cli", "-p", "9042"];
        cluster.kubectl_args(&[&exec, words].concat())
    };
    ensure!(cli("cassandra-0", &["set", "port", "Lisboa"])?.trim() == "OK");
    let known = |pod: &str| {
        eventually(&format!("{pod} knows what the first was told"), || {
            let said = cli(pod, &["get", "port"])?;
            if said.trim() == "Lisboa" { Ok(()) } else { bail!("{said:?}") }
        })
    };
    known("cassandra-2")?;
    let uid = |pod: &str| cluster.kubectl(&format!("get pod {pod} -n {ns} -o jsonpath={{.metadata.uid}}"));
    let before = uid("cassandra-0")?;
    cluster.kubectl(&format!("delete pod cassandra-0 -n {ns}"))?;
    rolled_out(cluster, &ns, &["statefulset/cassandra"])?;
    ensure!(uid("cassandra-0")? != before, "the pod is the old one");
    known("cassandra-0")?;
    cluster.kubectl(&format!("scale statefulset cassandra -n {ns} --replicas=1"))?;
    cluster.kubectl(&format!("wait pod/cassandra-1 -n {ns} --for=delete --timeout=60s"))?;
    cluster.kubectl(&format!("scale statefulset cassandra -n {ns} --replicas=2"))?;
    rolled_out(cluster, &ns, &["statefulset/cassandra"])?;
    known("cassandra-1")?;
    let claims = cluster.kubectl(&format!("get pvc -n {ns} -o name"))?;
    ensure!(claims.lines().count() == 3, "claims outlive their pods: {claims}");
    end(cluster, &ns)
}

fn fan_out(cluster: &Local) -> Result<()> {
    let ns = start(cluster, "fanout")?;
    rolled_out(cluster, &ns, &["deploy/tea", "deploy/coffee"])?;
    let path = "-o=jsonpath={.status.loadBalancer.ingress[0].ip}";
    let front = eventually("the ingress has an address", || {
        let ip = cluster.kubectl_args(&["get", "ingress", "cafe", "-n", &ns, path])?;
        Ok(SocketAddr::new(ip.parse().with_context(|| format!("{ip:?}"))?, 80))
    })?;
    for (host, path, served) in [
        ("cafe.example.com", "/tea/", "tea is served\n"),
        ("cafe.example.com", "/coffee/", "coffee is served\n"),
        ("green.tea.example.com", "/", "tea is served\n"),
    ] {
        eventually(&format!("{host}{path}"), || {
            let said = curl(front, path, &["-H", &format!("Host: {host}")])?;
            if said == served { Ok(()) } else { bail!("{said:?}") }
        })?;
    }
    let elsewhere = curl(front, "/", &["-H", "Host: nowhere.example.com"]);
    ensure!(elsewhere.is_err_and(|error| format!("{error:#}").contains("404")), "a host that nobody serves");
    end(cluster, &ns)
}
