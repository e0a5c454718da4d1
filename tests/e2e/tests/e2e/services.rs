//! Services: who gets traffic, and that none is lost.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use knarr_e2e::{Clients, Cluster, Load, eventually, eventually_within, host::outside, image::BUSYBOX};

use crate::{Shared, deployments::deploy_web};

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![
        ("a_load_balancer_has_an_address", load_balancer),
        ("a_rolling_update_loses_no_request", rolling_update),
        ("a_server_that_ends_at_once_loses_no_request", abrupt_end),
        ("a_canary_gets_its_share", canary),
        ("blue_green_switches_by_selector", blue_green),
        ("client_ip_affinity_sticks", affinity),
        ("an_unready_pod_gets_no_traffic", readiness),
        ("names_resolve_in_pods", names),
    ]
}

/// The address of a Service's load balancer and its port.
pub fn balancer(cluster: &Clients, ns: &str, name: &str, port: u16) -> Result<SocketAddr> {
    let path = "-o=jsonpath={.status.loadBalancer.ingress[0].ip}";
    eventually("the load balancer has an address", || {
        let ip = cluster.kubectl_args(&["get", "svc", name, "-n", ns, path])?;
        Ok(SocketAddr::new(ip.parse().with_context(|| format!("{ip:?}"))?, port))
    })
}

/// Waits until there are no more pods of the Deployment `web` than it wants.
pub fn old_pods_are_gone(cluster: &Clients, ns: &str, wanted: usize) -> Result<()> {
    eventually("the old pods are gone", || {
        let pods = cluster.kubectl(&format!("get pods -n {ns} -l app=web -o name"))?;
        if pods.lines().count() == wanted { Ok(()) } else { bail!("{pods}") }
    })
}

/// One request from outside.
fn curl(target: SocketAddr) -> Result<String> {
    knarr_e2e::command::succeed(outside("curl").args(["-sS", "--max-time", "3", &format!("http://{target}/")]))
}

fn load_balancer(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("balancer")?;
    deploy_web(cluster, &ns)?;
    let target = balancer(cluster, &ns, "web", 80)?;
    let answer = curl(target)?;
    ensure!(answer.starts_with("version=v1 colour="), "{answer:?}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn rolling_update(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("update")?;
    deploy_web(cluster, &ns)?;
    let target = balancer(cluster, &ns, "web", 80)?;
    let inside = "n=0; f=0; while [ ! -e /tmp/stop ]; do \
        if timeout 5 wget -q -O /tmp/answer http://web/; then n=$((n+1)); else f=$((f+1)); fi; done; \
        echo answered $n failed $f; sleep 1000";
    cluster.kubectl_args(&["run", "inside", "-n", &ns, "--image", BUSYBOX, "--", "sh", "-c", inside])?;
    cluster.kubectl(&format!("wait pod/inside -n {ns} --for=condition=Ready --timeout=60s"))?;
    let load = Load::start(&target.to_string())?;
    for image in ["v2", "v1"] {
        cluster.kubectl(&format!("set image deployment/web -n {ns} web=knarr.local/demo:{image}"))?;
        cluster.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=60s"))?;
    }
    old_pods_are_gone(cluster, &ns, 3)?;
    let outside = load.stop()?;
    println!("from outside: {} answered {:?}, {} failed", outside.total(), outside.answers, outside.failures.len());
    ensure!(
        outside.failures.is_empty(),
        "{} of {} failed: {:?}",
        outside.failures.len(),
        outside.total(),
        outside.failures
    );
    ensure!(outside.answers.len() == 2 && outside.total() > 200, "{outside:?}");
    cluster.kubectl(&format!("exec inside -n {ns} -- touch /tmp/stop"))?;
    let inside = eventually("the pod has counted", || {
        let log = cluster.kubectl(&format!("logs inside -n {ns}"))?;
        if log.contains("answered") { Ok(log) } else { bail!("{log:?}") }
    })?;
    println!("from a pod: {}", inside.trim());
    ensure!(inside.contains(" failed 0\n"), "{inside}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

/// Most servers stop listening the moment they are asked to end.
fn abrupt_end(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("abrupt")?;
    deploy_web(cluster, &ns)?;
    cluster.kubectl(&format!("set env deployment/web -n {ns} LINGER_MS=0"))?;
    cluster.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=60s"))?;
    let target = balancer(cluster, &ns, "web", 80)?;
    let load = Load::start(&target.to_string())?;
    for round in ["1", "2"] {
        cluster.kubectl(&format!("set env deployment/web -n {ns} ROUND={round}"))?;
        cluster.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=60s"))?;
    }
    old_pods_are_gone(cluster, &ns, 3)?;
    let report = load.stop()?;
    println!("ended at once: {} answered, {} failed", report.total(), report.failures.len());
    ensure!(report.failures.is_empty() && report.total() > 200, "{report:?}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

/// A second Deployment of version 2 under the same Service.
pub fn deploy_second(cluster: &Clients, ns: &str, name: &str, labels: &str, replicas: u32) -> Result<()> {
    let yaml = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  \
         selector: {{matchLabels: {{release: {name}}}}}\n  template:\n    metadata: {{labels: {{release: {name}, {labels}}}}}\n    \
         spec:\n      containers:\n        - name: web\n          image: knarr.local/demo:v2\n          ports: [{{name: http, containerPort: 8080}}]\n          \
         readinessProbe: {{httpGet: {{path: /readyz, port: 8080}}, periodSeconds: 1}}\n"
    );
    cluster.apply(ns, &yaml)?;
    cluster.kubectl(&format!("rollout status deployment/{name} -n {ns} --timeout=60s"))?;
    Ok(())
}

fn canary(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("canary")?;
    deploy_web(cluster, &ns)?;
    deploy_second(cluster, &ns, "canary", "app: web", 1)?;
    let target = balancer(cluster, &ns, "web", 80)?;
    eventually("both versions answer", || {
        let mut seen = String::new();
        for _ in 0..20 {
            seen.push_str(&curl(target)?);
        }
        if seen.contains("version=v2") { Ok(()) } else { bail!("only version 1") }
    })?;
    let load = Load::start(&target.to_string())?;
    std::thread::sleep(Duration::from_secs(2));
    let report = load.stop()?;
    let share = report.share("version=v2");
    println!("canary: {:.1}% of {} requests", share * 100.0, report.total());
    ensure!(report.failures.is_empty() && report.total() > 500, "{report:?}");
    ensure!((0.20..0.30).contains(&share), "the canary is 1 of 4 and got {share}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn blue_green(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("bluegreen")?;
    deploy_web(cluster, &ns)?;
    deploy_second(cluster, &ns, "green", "colour: green", 2)?;
    let target = balancer(cluster, &ns, "web", 80)?;
    let load = Load::start(&target.to_string())?;
    let switch = r#"[{"op":"replace","path":"/spec/selector","value":{"colour":"green"}}]"#;
    cluster.kubectl_args(&["patch", "service", "web", "-n", &ns, "--type=json", "-p", switch])?;
    eventually_within(Duration::from_secs(5), "green answers alone", || {
        for _ in 0..10 {
            let answer = curl(target)?;
            if !answer.starts_with("version=v2") {
                bail!("{answer}");
            }
        }
        Ok(())
    })?;
    let report = load.stop()?;
    ensure!(report.failures.is_empty(), "{:?}", report.failures);
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn affinity(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("affinity")?;
    deploy_web(cluster, &ns)?;
    cluster.kubectl_args(&[
        "patch",
        "service",
        "web",
        "-n",
        &ns,
        "-p",
        r#"{"spec":{"sessionAffinity":"ClientIP"}}"#,
    ])?;
    cluster.expect(
        &format!("service/web -n {ns}"),
        "{.spec.sessionAffinityConfig.clientIP.timeoutSeconds}",
        "10800",
    )?;
    let target = balancer(cluster, &ns, "web", 80)?;
    eventually_within(Duration::from_secs(5), "one pod answers a client", || {
        let first = curl(target)?;
        for _ in 0..20 {
            let answer = curl(target)?;
            ensure!(answer == first, "{first} then {answer}");
        }
        Ok(())
    })?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn readiness(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("readiness")?;
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: shy, labels: {{app: shy}}}}\nspec:\n  containers:\n    - name: c\n      \
         image: {BUSYBOX}\n      command: [sh, -c, 'mkdir /www; echo here > /www/index.html; touch /tmp/ready; httpd -f -p 8080 -h /www']\n      \
         readinessProbe: {{exec: {{command: [cat, /tmp/ready]}}, periodSeconds: 1, failureThreshold: 1}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: shy}}\nspec: {{type: NodePort, selector: {{app: shy}}, ports: [{{port: 80, targetPort: 8080, nodePort: 30099}}]}}\n"
    );
    cluster.apply(&ns, &yaml)?;
    let target: SocketAddr = format!("{}:30099", cluster.address()).parse()?;
    eventually("the pod answers", || curl(target))?;
    cluster.kubectl(&format!("exec shy -n {ns} -- rm /tmp/ready"))?;
    eventually("the pod is not ready", || {
        let table = cluster.kubectl(&format!("get pod shy -n {ns}"))?;
        if table.contains("0/1") { Ok(()) } else { bail!("{table}") }
    })?;
    eventually_within(Duration::from_secs(5), "nobody answers", || match curl(target) {
        Ok(answer) => bail!("{answer}"),
        Err(error) if format!("{error:#}").contains("failed with 7:") => Ok(()),
        Err(error) => Err(error.context("not refused at once")),
    })?;
    cluster.kubectl(&format!("exec shy -n {ns} -- touch /tmp/ready"))?;
    eventually("the pod answers again", || curl(target))?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn names(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("names")?;
    deploy_web(cluster, &ns)?;
    cluster.kubectl(&format!("create service clusterip headless -n {ns} --clusterip=None --tcp=8080"))?;
    cluster.kubectl(&format!("set selector service/headless -n {ns} app=web"))?;
    cluster.kubectl(&format!("create service externalname away -n {ns} --external-name=web.{ns}.svc.cluster.local"))?;
    cluster.kubectl_args(&["run", "asker", "-n", &ns, "--image", BUSYBOX, "--", "sleep", "1000"])?;
    cluster.kubectl(&format!("wait pod/asker -n {ns} --for=condition=Ready --timeout=60s"))?;
    let ip = cluster.get(&format!("service/web -n {ns}"))?["spec"]["clusterIP"].as_str().context("no IP")?.to_owned();
    for name in ["web", &format!("web.{ns}"), &format!("web.{ns}.svc.cluster.local"), "away"] {
        let answer = eventually(name, || {
            cluster.kubectl(&format!("exec asker -n {ns} -- timeout 5 wget -q -O- http://{name}/"))
        })?;
        ensure!(answer.starts_with("version="), "{name}: {answer}");
    }
    // Whole words: the name server's own address, which is printed too, may begin with another's.
    for (name, ip) in [(format!("web.{ns}"), &*ip), ("kubernetes.default".to_owned(), "10.96.0.1")] {
        let answer = cluster.kubectl(&format!("exec asker -n {ns} -- nslookup {name}.svc.cluster.local"))?;
        ensure!(answer.split_whitespace().any(|word| word == ip), "{name}: {answer}");
    }
    let answer = cluster.kubectl(&format!("exec asker -n {ns} -- nslookup headless.{ns}.svc.cluster.local"))?;
    ensure!(answer.matches("Address").count() >= 4, "{answer}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}
