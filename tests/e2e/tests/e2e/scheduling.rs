//! Which of five nodes pods get, and what a namespace may have, asked as users ask it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use knarr_e2e::{Clients, Local, command, eventually, image::BUSYBOX};

use crate::OnFive;

pub fn on_five() -> Vec<(&'static str, OnFive)> {
    vec![
        ("pods_go_where_labels_and_taints_let_them", places),
        ("pods_are_spread_over_zones_and_nodes", spread),
        ("the_important_push_others_out", preemption),
        ("a_namespace_has_no_more_than_its_quota", quota),
    ]
}

/// A Deployment of sleepers with further fields of the pod's spec, each a line of YAML's flow style.
fn sleepers(name: &str, replicas: usize, spec: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  selector: \
         {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      \
         {spec}\n      terminationGracePeriodSeconds: 0\n      containers: [{{name: c, image: '{BUSYBOX}', command: \
         [sleep, '1000']}}]\n"
    )
}

/// How many of a Deployment's pods run on each node.
fn by_node(five: &Clients, ns: &str, name: &str) -> Result<BTreeMap<String, usize>> {
    let path = "-o=jsonpath={.items[*].spec.nodeName}";
    let running = "--field-selector=status.phase=Running";
    let names = five.kubectl_args(&["get", "pods", "-n", ns, "-l", &format!("app={name}"), running, path])?;
    let mut counts = BTreeMap::new();
    for node in names.split_whitespace() {
        *counts.entry(node.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

fn settled(five: &Clients, ns: &str, name: &str, running: usize) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    eventually(&format!("{running} pods of {name} run"), || {
        counts = by_node(five, ns, name)?;
        ensure!(counts.values().sum::<usize>() == running, "{counts:?}");
        Ok(())
    })?;
    Ok(counts)
}

/// The nodes that take everybody's pods.
fn workers(five: &Clients) -> Result<Vec<String>> {
    let names = five.kubectl("get nodes -l !node-role.kubernetes.io/control-plane -o name")?;
    let names: Vec<String> = names.lines().map(|name| name.trim_start_matches("node/").to_owned()).collect();
    ensure!(names.len() == 4, "{names:?}");
    Ok(names)
}

/// Labels nodes for the time of a test.
fn with_labels(five: &Clients, labels: &[(&str, &str)], test: impl FnOnce() -> Result<()>) -> Result<()> {
    let label = |words: &dyn Fn(&str) -> String| {
        labels.iter().try_for_each(|(node, pair)| five.kubectl(&format!("label node {node} {}", words(pair))).map(drop))
    };
    let done = label(&|pair| pair.to_owned()).and_then(|()| test());
    label(&|pair| format!("{}-", pair.split('=').next().unwrap_or_default())).and(done)
}

fn places(five: &Local) -> Result<()> {
    let ns = five.namespace("places")?;
    let nodes = workers(five)?;
    let [first, second, ..] = nodes.as_slice() else { unreachable!("there are four") };
    with_labels(five, &[(first, "disk=fast"), (second, "disk=fast")], || {
        let fast = "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: \
                    [{matchExpressions: [{key: disk, operator: In, values: [fast]}]}]}}}";
        five.apply(&ns, &sleepers("fast", 4, fast))?;
        let on = settled(five, &ns, "fast", 4)?;
        ensure!(on.keys().eq([first, second]), "{on:?}");
        let near = "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: \
                    kubernetes.io/hostname, labelSelector: {matchLabels: {app: one}}}]}}";
        five.apply(&ns, &sleepers("one", 1, "nodeSelector: {disk: fast}"))?;
        five.apply(&ns, &sleepers("near", 3, near))?;
        let (one, near) = (settled(five, &ns, "one", 1)?, settled(five, &ns, "near", 3)?);
        ensure!(one.keys().eq(near.keys()), "{near:?} is not where {one:?} is");
        Ok(())
    })?;
    let apart = "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: \
                 kubernetes.io/hostname, labelSelector: {matchLabels: {app: apart}}}]}}";
    five.apply(&ns, &sleepers("apart", 5, apart))?;
    ensure!(settled(five, &ns, "apart", 4)?.len() == 4, "one on each node");
    eventually("the fifth says why it waits", || {
        let events = five.kubectl(&format!("get events -n {ns} --field-selector reason=FailedScheduling"))?;
        let why = "4 node(s) didn't match pod anti-affinity rules";
        ensure!(events.contains("0/5 nodes are available") && events.contains(why), "{events}");
        Ok(())
    })?;
    five.kubectl(&format!("taint node {first} ship=sunk:NoExecute"))?;
    let fled = eventually("a tainted node is left", || {
        let on = by_node(five, &ns, "apart")?;
        ensure!(on.len() == 3 && !on.contains_key(first), "{on:?}");
        Ok(())
    });
    let guest = "tolerations: [{key: ship, operator: Equal, value: sunk, effect: NoExecute}]\n      nodeName: ''\n      \
                 nodeSelector: {kubernetes.io/hostname: HOST}";
    let stays = fled.and_then(|()| {
        five.apply(&ns, &sleepers("guest", 1, &guest.replace("HOST", first)))?;
        settled(five, &ns, "guest", 1)
    });
    five.kubectl(&format!("taint node {first} ship-"))?;
    ensure!(stays?.contains_key(first), "who tolerates the taint may go there");
    ensure!(settled(five, &ns, "apart", 4)?.contains_key(first), "the healed node is used again");
    five.kubectl(&format!("delete namespace {ns} --wait=false")).map(drop)
}

fn spread(five: &Local) -> Result<()> {
    let ns = five.namespace("spread")?;
    let nodes = workers(five)?;
    let zone =
        |index: usize| if index == 0 { "topology.kubernetes.io/zone=a" } else { "topology.kubernetes.io/zone=b" };
    let labels: Vec<_> = nodes.iter().enumerate().map(|(index, node)| (node.as_str(), zone(index))).collect();
    five.apply(&ns, &sleepers("plain", 8, "nodeSelector: {kubernetes.io/os: linux}"))?;
    let plain = settled(five, &ns, "plain", 8)?;
    ensure!(plain.values().all(|count| *count == 2), "a ReplicaSet's pods are spread evenly: {plain:?}");
    with_labels(five, &labels, || {
        let zones = "topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, \
                     whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: zones}}}]";
        five.apply(&ns, &sleepers("zones", 6, zones))?;
        let on = settled(five, &ns, "zones", 6)?;
        ensure!(on.get(&nodes[0]) == Some(&3), "one node is one zone of two: {on:?}");
        Ok(())
    })?;
    five.kubectl(&format!("delete namespace {ns} --wait=false")).map(drop)
}

/// A resource that only this cluster knows is counted; who is more important gets it, and who goes for that says so.
fn preemption(five: &Local) -> Result<()> {
    let ns = five.namespace("ranks")?;
    let node = workers(five)?.remove(0);
    let offer = |count: &str| {
        let patch = format!(r#"[{{"op":"add","path":"/status/capacity/example.com~1berth","value":"{count}"}}]"#);
        five.kubectl_args(&["patch", "node", &node, "--subresource=status", "--type=json", "-p", &patch]).map(drop)
    };
    offer("2")?;
    five.expect(&format!("node/{node}"), "{.status.allocatable.example\\.com/berth}", "2")?;
    let pods = |name: &str, count, class: &str| {
        let text = sleepers(name, count, class);
        text.replace("name: c,", "name: c, resources: {limits: {example.com/berth: '1'}},")
    };
    five.apply(&ns, &pods("humble", 3, "priorityClassName: ''"))?;
    ensure!(settled(five, &ns, "humble", 2)?.keys().eq([&node]), "only {node} has berths");
    let class = format!("{ns}-captain");
    five.kubectl(&format!("create priorityclass {class} --value=1000"))?;
    five.apply(&ns, &pods("captain", 1, &format!("priorityClassName: {class}")))?;
    settled(five, &ns, "captain", 1)?;
    settled(five, &ns, "humble", 1)?;
    let events = five.kubectl(&format!("get events -n {ns}"))?;
    ensure!(events.contains("Preempted by pod") && events.contains("Insufficient example.com/berth"), "{events}");
    five.kubectl(&format!("delete priorityclass {class}"))?;
    five.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    offer("0")
}

fn quota(five: &Local) -> Result<()> {
    let ns = five.namespace("quota")?;
    five.kubectl(&format!("create quota few -n {ns} --hard=pods=3,requests.cpu=300m"))?;
    let limits = "apiVersion: v1\nkind: LimitRange\nmetadata: {name: sizes}\nspec:\n  limits:\n  - {type: Container, \
                  defaultRequest: {cpu: 100m}, default: {cpu: 200m}, max: {cpu: '1'}}\n";
    five.apply(&ns, limits)?;
    five.expect(&format!("quota/few -n {ns}"), "{.status.hard.pods}", "3")?;
    five.apply(&ns, &sleepers("many", 5, "nodeSelector: {}"))?;
    settled(five, &ns, "many", 3)?;
    five.expect(&format!("quota/few -n {ns}"), r"{.status.used.pods} {.status.used.requests\.cpu}", "3 300m")?;
    eventually("the ReplicaSet says why there are no more", || {
        let events = five.kubectl(&format!("get events -n {ns} --field-selector reason=FailedCreate"))?;
        ensure!(events.contains("exceeded quota: few, requested: pods=1"), "{events}");
        Ok(())
    })?;
    let greedy = ["run", "greedy", "-n", &ns, "--image", BUSYBOX, "--overrides", GREEDY];
    let said = command::run(&mut five.kubectl_command(&greedy))?;
    let wanted = "maximum cpu usage per Container is 1, but limit is 2";
    ensure!(said.code != 0 && said.all().contains(wanted), "{}", said.all());
    five.kubectl(&format!(
        "patch quota few -n {ns} -p {{\"spec\":{{\"hard\":{{\"pods\":\"5\",\"requests.cpu\":\"1\"}}}}}}"
    ))?;
    settled(five, &ns, "many", 5).context("with room, the rest comes")?;
    five.kubectl(&format!("delete namespace {ns} --wait=false")).map(drop)
}

const GREEDY: &str = r#"{"spec":{"containers":[{"name":"greedy","image":"i","resources":{"limits":{"cpu":"2"}}}]}}"#;
