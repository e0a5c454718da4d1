//! What five nodes are for: work spread over them, and going on when one of them is gone.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use knarr_e2e::{Clients, Load, Local, command, eventually, eventually_within, host::outside, image::BUSYBOX};

use crate::{
    Alone, OnFive,
    services::{balancer, deploy_second, old_pods_are_gone},
};

pub fn on_five() -> Vec<(&'static str, OnFive)> {
    vec![
        ("twenty_pods_are_updated_without_a_lost_request", rolling_update),
        ("a_canary_of_one_in_ten_gets_a_tenth", canary),
        ("blue_and_green_are_switched_without_a_lost_request", blue_green),
        ("a_stateful_pod_keeps_name_record_and_data", stateful),
        ("a_drain_waits_for_a_budget", drain),
        ("every_node_serves_names_datagrams_and_affinity", every_node),
        ("local_traffic_has_a_health_port", health_port),
    ]
}

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![("a_lost_node_is_missed_for_a_moment_only", lost_node)]
}

/// Web servers of version 1 behind the load balancer `web`, spread over the nodes, ready.
fn deploy(five: &Clients, ns: &str, replicas: u32) -> Result<SocketAddr> {
    let yaml = include_str!("web.yaml").replace("replicas: 3", &format!("replicas: {replicas}"));
    let quick = "    spec:\n      tolerations:\n\
        \x20       - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}\n\
        \x20       - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}\n";
    five.apply(ns, &yaml.replacen("    spec:\n", quick, 1))?;
    five.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=60s"))?;
    balancer(five, ns, "web", 80)
}

/// The nodes on which pods with this label are.
fn nodes_of(five: &Clients, ns: &str, label: &str) -> Result<BTreeSet<String>> {
    let path = "-o=jsonpath={.items[*].spec.nodeName}";
    let names = five.kubectl_args(&["get", "pods", "-n", ns, "-l", label, path])?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

fn end(five: &Clients, ns: &str) -> Result<()> {
    five.kubectl(&format!("delete namespace {ns} --wait=false")).map(drop)
}

fn rolling_update(five: &Local) -> Result<()> {
    let ns = five.namespace("update")?;
    let target = deploy(five, &ns, 20)?;
    let nodes = nodes_of(five, &ns, "app=web")?;
    ensure!(nodes.len() >= 4, "twenty pods are on {nodes:?} only");
    let load = Load::start(&target.to_string())?;
    five.kubectl(&format!("set image deployment/web -n {ns} web=knarr.local/demo:v2"))?;
    five.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=55s"))?;
    old_pods_are_gone(five, &ns, 20)?;
    let report = load.stop()?;
    println!("20 pods updated: {} answered {:?}, {} failed", report.total(), report.answers, report.failures.len());
    ensure!(report.failures.is_empty() && report.answers.len() == 2, "{report:?}");
    end(five, &ns)
}

fn canary(five: &Local) -> Result<()> {
    let ns = five.namespace("canary")?;
    let target = deploy(five, &ns, 9)?;
    deploy_second(five, &ns, "canary", "app: web", 1)?;
    eventually("every pod is an endpoint", || {
        let path = "-o=jsonpath={.items[*].endpoints[?(@.conditions.ready)].addresses[0]}";
        let slices =
            five.kubectl_args(&["get", "endpointslices", "-n", &ns, "-l", "kubernetes.io/service-name=web", path])?;
        if slices.split_whitespace().count() == 10 { Ok(()) } else { bail!("{slices}") }
    })?;
    // What the nodes know of it is a moment behind.
    std::thread::sleep(Duration::from_millis(500));
    let load = Load::start(&target.to_string())?;
    std::thread::sleep(Duration::from_secs(3));
    let report = load.stop()?;
    let share = report.share("version=v2");
    println!("canary: {:.1} % of {} requests", share * 100.0, report.total());
    ensure!(report.failures.is_empty() && report.total() >= 2000, "{report:?}");
    ensure!((0.07..=0.13).contains(&share), "one of ten pods got {share}");
    end(five, &ns)
}

fn blue_green(five: &Local) -> Result<()> {
    let ns = five.namespace("bluegreen")?;
    let target = deploy(five, &ns, 5)?;
    deploy_second(five, &ns, "green", "colour: green", 5)?;
    let load = Load::start(&target.to_string())?;
    for (selector, version) in [(r#"{"colour":"green"}"#, "version=v2"), (r#"{"app":"web"}"#, "version=v1")] {
        let switch = format!(r#"[{{"op":"replace","path":"/spec/selector","value":{selector}}}]"#);
        five.kubectl_args(&["patch", "service", "web", "-n", &ns, "--type=json", "-p", &switch])?;
        eventually_within(Duration::from_secs(5), "one version answers alone", || {
            for _ in 0..10 {
                let answer = ask(target)?;
                ensure!(answer.starts_with(version), "{answer}");
            }
            Ok(())
        })?;
    }
    let report = load.stop()?;
    println!("blue-green: {} answered {:?}, {} failed", report.total(), report.answers, report.failures.len());
    ensure!(report.failures.is_empty(), "{:?}", report.failures);
    end(five, &ns)
}

/// One request from outside, which has half a second.
fn ask(target: SocketAddr) -> Result<String> {
    command::succeed(outside("curl").args(["-sS", "--max-time", "0.5", &format!("http://{target}/")]))
}

fn stateful(five: &Local) -> Result<()> {
    let ns = five.namespace("stateful")?;
    let yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: db}}\nspec: {{clusterIP: None, selector: {{app: db}}, ports: \
         [{{port: 80}}]}}\n---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: db}}\nspec:\n  serviceName: db\n  \
         replicas: 3\n  selector: {{matchLabels: {{app: db}}}}\n  template:\n    metadata: {{labels: {{app: db}}}}\n    spec:\n      \
         terminationGracePeriodSeconds: 1\n      containers:\n      - name: db\n        image: {BUSYBOX}\n        command: [sh, -c, \
         'echo $(hostname) >> /data/lives; exec httpd -f -p 80 -h /data']\n        volumeMounts: [{{name: data, mountPath: \
         /data}}]\n  volumeClaimTemplates:\n  - metadata: {{name: data}}\n    spec: {{accessModes: [ReadWriteOnce], resources: \
         {{requests: {{storage: 1Mi}}}}}}\n"
    );
    five.apply(&ns, &yaml)?;
    five.kubectl(&format!("rollout status statefulset/db -n {ns} --timeout=60s"))?;
    five.kubectl_args(&["run", "asker", "-n", &ns, "--image", BUSYBOX, "--", "sleep", "1000"])?;
    five.kubectl(&format!("wait pod/asker -n {ns} --for=condition=Ready --timeout=60s"))?;
    let ip = || five.kubectl(&format!("get pod db-1 -n {ns} -o jsonpath={{.status.podIP}}"));
    let lives = || five.kubectl(&format!("exec asker -n {ns} -- timeout 5 wget -q -O- http://db-1.db/lives"));
    eventually("the pod is found by its name", lives)?;
    let before = five.get(&format!("pod/db-1 -n {ns}"))?["metadata"]["uid"].clone();
    five.kubectl(&format!("delete pod db-1 -n {ns}"))?;
    five.kubectl(&format!("rollout status statefulset/db -n {ns} --timeout=60s"))?;
    ensure!(five.get(&format!("pod/db-1 -n {ns}"))?["metadata"]["uid"] != before, "the pod was not replaced");
    eventually("the new pod has the old one's name, record and data", || {
        let (lives, ip) = (lives()?, ip()?);
        ensure!(lives == "db-1\ndb-1\n", "{lives:?}");
        let record = five.kubectl(&format!("exec asker -n {ns} -- nslookup db-1.db.{ns}.svc.cluster.local"))?;
        ensure!(record.contains(&ip), "{ip} is not in {record}");
        Ok(())
    })?;
    end(five, &ns)
}

fn drain(five: &Local) -> Result<()> {
    let ns = five.namespace("drain")?;
    deploy(five, &ns, 2)?;
    five.kubectl(&format!("create poddisruptionbudget web -n {ns} --selector=app=web --min-available=2"))?;
    five.expect(&format!("pdb/web -n {ns}"), "{.status.currentHealthy}", "2")?;
    let node = nodes_of(five, &ns, "app=web")?.into_iter().next().context("no node")?;
    let drain = ["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout"];
    let refused = command::run(&mut five.kubectl_command(&[&drain[..], &["3s"]].concat()))?;
    ensure!(refused.code != 0 && refused.all().contains("disruption budget"), "{}", refused.all());
    ensure!(nodes_of(five, &ns, "app=web")?.contains(&node), "the budget was not honoured");
    let waiting = command::start(&mut five.kubectl_command(&[&drain[..], &["60s"]].concat()), "")?;
    five.kubectl(&format!("scale deployment web -n {ns} --replicas=4"))?;
    let drained = waiting.finish(Duration::from_secs(60))?;
    ensure!(drained.code == 0 && drained.all().contains("drained"), "{}", drained.all());
    ensure!(!nodes_of(five, &ns, "app=web")?.contains(&node), "a pod is still there");
    let nodes = five.kubectl(&format!("get node {node}"))?;
    ensure!(nodes.contains("SchedulingDisabled"), "{nodes}");
    five.kubectl(&format!("uncordon {node}"))?;
    end(five, &ns)
}

/// The addresses of all nodes, by name.
fn addresses(five: &Clients) -> Result<Vec<(String, String)>> {
    let path = r#"-o=jsonpath={range .items[*]}{.metadata.name} {.status.addresses[?(@.type=="InternalIP")].address}{"\n"}{end}"#;
    let text = five.kubectl_args(&["get", "nodes", path])?;
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.map(|(name, ip)| (name.to_owned(), ip.to_owned())).collect())
}

/// From a pod on each node, the server's too: the cluster's DNS, a Service of datagrams, whose endpoint is this process,
/// and a Service that keeps a client with one pod. From here: the datagrams through each node's port.
fn every_node(five: &Local) -> Result<()> {
    let ns = five.namespace("everywhere")?;
    deploy(five, &ns, 5)?;
    five.kubectl_args(&["patch", "service", "web", "-n", &ns, "-p", r#"{"spec":{"sessionAffinity":"ClientIP"}}"#])?;
    let nodes = addresses(five)?;
    let (_, some_node) = nodes.first().context("no node")?;
    let endpoint = serve_names(some_node)?;
    let yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: names}}\nspec: {{type: NodePort, ports: [{{name: dns, port: 53, \
         protocol: UDP, nodePort: 30053}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: \
         names-here, labels: {{kubernetes.io/service-name: names}}}}\naddressType: IPv4\nendpoints: [{{addresses: \
         ['{ip}']}}]\nports: [{{name: dns, port: {port}, protocol: UDP}}]\n---\napiVersion: apps/v1\nkind: \
         DaemonSet\nmetadata: {{name: asker}}\nspec:\n  selector: {{matchLabels: {{app: asker}}}}\n  template:\n    metadata: \
         {{labels: {{app: asker}}}}\n    spec:\n      terminationGracePeriodSeconds: 0\n      tolerations: [{{operator: \
         Exists}}]\n      containers: [{{name: c, image: '{BUSYBOX}', command: [sleep, '1000']}}]\n",
        ip = endpoint.ip(),
        port = endpoint.port()
    );
    five.apply(&ns, &yaml)?;
    five.kubectl(&format!("rollout status daemonset/asker -n {ns} --timeout=55s"))?;
    let web = five.get(&format!("service/web -n {ns}"))?["spec"]["clusterIP"].as_str().context("no IP")?.to_owned();
    let names = five.get(&format!("service/names -n {ns}"))?["spec"]["clusterIP"].as_str().context("no IP")?.to_owned();
    let askers = five.kubectl(&format!("get pods -n {ns} -l app=asker -o name"))?;
    ensure!(askers.lines().count() == 5, "{askers}");
    for asker in askers.lines() {
        let ask = |words: &str| five.kubectl(&format!("exec -n {ns} {asker} -- timeout 5 {words}"));
        eventually(&format!("{asker} finds names"), || {
            let said = ask(&format!("nslookup web.{ns}.svc.cluster.local"))?;
            ensure!(said.contains(&web), "{said}");
            let said = ask(&format!("nslookup -type=a ship.example {names}"))?;
            ensure!(said.contains("192.0.2.7"), "{said}");
            Ok(())
        })?;
        eventually(&format!("{asker} stays with one pod"), || {
            let first = ask("wget -q -O- http://web/")?;
            for _ in 0..6 {
                let answer = ask("wget -q -O- http://web/")?;
                ensure!(answer == first, "{first} then {answer}");
            }
            Ok(())
        })?;
    }
    for (node, ip) in nodes {
        eventually(&format!("{node} passes datagrams on"), || datagram(&format!("{ip}:30053")))?;
    }
    end(five, &ns)
}

/// A name server (RFC 1035) at this process's address towards a node, which says of every name that it is 192.0.2.7.
fn serve_names(node: &str) -> Result<SocketAddr> {
    let probe = UdpSocket::bind("0.0.0.0:0")?;
    probe.connect((node, 53))?;
    let socket = UdpSocket::bind((probe.local_addr()?.ip(), 0))?;
    let address = socket.local_addr()?;
    std::thread::spawn(move || {
        let mut question = [0; 512];
        // It ends with the process.
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let mut answer = question[..length].to_vec();
            // A response with recursion, one answer: the question's name, type A, class IN, 60 s, 4 bytes.
            answer[2..4].copy_from_slice(b"\x81\x80");
            answer[6..8].copy_from_slice(b"\0\x01");
            answer.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x07");
            let _ = socket.send_to(&answer, from);
        }
    });
    Ok(address)
}

/// Asks a name server for ship.example (RFC 1035) and looks for its address in the answer.
fn datagram(server: &str) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    socket.send_to(b"\x07\x07\x01\0\0\x01\0\0\0\0\0\0\x04ship\x07example\0\0\x01\0\x01", server)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    ensure!(answer[..length].ends_with(&[192, 0, 2, 7]), "{:?}", &answer[..length]);
    Ok(())
}

/// With `externalTrafficPolicy: Local` each node says on a port of its own whether it has an endpoint.
fn health_port(five: &Local) -> Result<()> {
    let ns = five.namespace("health")?;
    deploy(five, &ns, 1)?;
    five.kubectl_args(&["patch", "service", "web", "-n", &ns, "-p", r#"{"spec":{"externalTrafficPolicy":"Local"}}"#])?;
    let service = five.get(&format!("service/web -n {ns}"))?;
    let port = service["spec"]["healthCheckNodePort"].as_u64().context("no health check node port")?;
    let has = nodes_of(five, &ns, "app=web")?;
    for (node, ip) in addresses(five)? {
        let (code, local) = if has.contains(&node) { ("200", 1) } else { ("503", 0) };
        eventually(&format!("{node} says {code}"), || {
            let url = format!("http://{ip}:{port}/healthz");
            let said = command::succeed(outside("curl").args(["-sS", "--max-time", "1", "-w", " %{http_code}", &url]))?;
            let (body, status) = said.rsplit_once(' ').context("no status")?;
            let body: serde_json::Value = serde_json::from_str(body)?;
            ensure!(status == code && body["localEndpoints"] == local && body["service"]["name"] == "web", "{said}");
            Ok(())
        })?;
    }
    end(five, &ns)
}

/// A node is cut off while clients come in through the load balancer: as soon as the cluster knows, they are all
/// answered within two seconds; the pods start elsewhere, and the node that comes back stops its own.
fn lost_node() -> Result<()> {
    let five = Local::create("lost", 5, &["--node-monitor-grace-period", "5s"])?;
    let ns = five.namespace("lost")?;
    let target = deploy(&five, &ns, 3)?;
    let announcer = five.kubectl_args(&[
        "get",
        "service",
        "web",
        "-n",
        &ns,
        r"-o=jsonpath={.metadata.annotations.knarr\.dev/load-balancer-node}",
    ])?;
    // The one that costs most: it has a pod of the Service, and its address, where that is another than the server.
    let mut nodes = nodes_of(&five, &ns, "app=web")?;
    nodes.remove(&five.node_name("server"));
    let lost = if nodes.contains(&announcer) { announcer } else { nodes.into_iter().next().context("no node")? };
    let short = lost.strip_prefix("lost-").context("a name")?.to_owned();
    five.cluster(&format!("node stop {short}"))?;
    let ready = r#"-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
    eventually_within(Duration::from_secs(20), "the node is known to be gone", || {
        let status = five.kubectl_args(&["get", "node", &lost, ready])?;
        if status == "Unknown" { Ok(()) } else { bail!("{status}") }
    })?;
    let known = Instant::now();
    let (mut outage, mut answered) = (Duration::ZERO, 0);
    while answered < 100 {
        ensure!(known.elapsed() < Duration::from_secs(30), "requests fail for good");
        match ask(target) {
            Ok(_) => answered += 1,
            Err(_) => (outage, answered) = (known.elapsed(), 0),
        }
    }
    println!("the last failure was {} ms after the node was known to be gone", outage.as_millis());
    ensure!(outage <= Duration::from_secs(2), "requests failed for {outage:?}");
    eventually("three pods are ready elsewhere", || {
        let status = five.kubectl(&format!("get deployment web -n {ns} -o jsonpath={{.status.readyReplicas}}"))?;
        if status == "3" { Ok(()) } else { bail!("{status:?} are ready") }
    })?;
    five.cluster(&format!("node start {short}"))?;
    eventually("the node is back, and without its old pods", || {
        let status = five.kubectl_args(&["get", "node", &lost, ready])?;
        let pods = five.kubectl(&format!("get pods -n {ns} -o name"))?;
        if status == "True" && pods.lines().count() == 3 { Ok(()) } else { bail!("{status}\n{pods}") }
    })?;
    Ok(())
}
