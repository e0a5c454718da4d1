//! What must be true once nothing breaks any more and everybody had time: every wish fulfilled, nothing left over.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    laws::{cpu_milli, has_ended},
    node::CPU_MILLI,
    truth::Truth,
    user::NAMESPACES,
};

/// Says what is not yet, or not, as it should be.
pub fn complaints(truth: &Truth) -> Vec<String> {
    let mut complaints = Vec::new();
    let all = truth.list("");
    let uids: BTreeSet<&str> = all.iter().filter_map(|(_, object)| object["metadata"]["uid"].as_str()).collect();
    for (key, object) in &all {
        let mut complain = |what: String| complaints.push(format!("{key} {what}"));
        if !object["metadata"]["deletionTimestamp"].is_null() {
            complain(format!("is still being deleted; finalizers: {}", object["metadata"]["finalizers"]));
        }
        for owner in list(&object["metadata"]["ownerReferences"]) {
            if !owner["uid"].as_str().is_some_and(|uid| uids.contains(uid)) {
                complain(format!("is left over from {} {}", owner["kind"], owner["name"]));
            }
        }
        let complaint = match key.split('/').next().unwrap_or_default() {
            "deployments.apps" => deployment(object),
            "replicasets.apps" => replica_set(truth, object),
            "daemonsets.apps" => daemon_set(truth, object),
            "statefulsets.apps" => stateful_set(truth, object),
            "jobs.batch" => job(truth, object),
            "pods" => pod(object),
            "services" => address(truth, key, object).or_else(|| service(truth, key, object)),
            "ipaddresses.networking.k8s.io" => holder(truth, object),
            _ => None,
        };
        complaints.extend(complaint.map(|what| format!("{key} {what}")));
    }
    let bundles = truth.list("clustertrustbundles.certificates.k8s.io/").len();
    if bundles != 1 {
        complaints.push(format!("the API server's authority is published in {bundles} bundles"));
    }
    complaints.extend(namespaces(truth));
    complaints.extend(nodes(truth));
    complaints
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn deployment(object: &Value) -> Option<String> {
    let (wanted, status) = (number(&object["spec"]["replicas"]), &object["status"]);
    let is_seen = status["observedGeneration"] == object["metadata"]["generation"];
    let counts = ["replicas", "updatedReplicas", "availableReplicas", "readyReplicas"];
    let is_done = is_seen && counts.iter().all(|count| number(&status[*count]) == wanted);
    (!is_done).then(|| format!("wants {wanted} of generation {}, and is {status}", object["metadata"]["generation"]))
}

/// The pods that an object controls.
fn controlled(truth: &Truth, owner: &Value) -> Vec<Value> {
    let is_owner = |reference: &Value| reference["uid"] == owner["metadata"]["uid"] && reference["controller"] == true;
    let pods = truth.list("pods/").into_iter().map(|(_, pod)| (*pod).clone());
    pods.filter(|pod| list(&pod["metadata"]["ownerReferences"]).iter().any(is_owner)).collect()
}

fn replica_set(truth: &Truth, object: &Value) -> Option<String> {
    let wanted = number(&object["spec"]["replicas"]);
    let pods = controlled(truth, object).iter().filter(|pod| !has_ended(pod)).count() as i64;
    let said = number(&object["status"]["replicas"]);
    (pods != wanted || said != wanted).then(|| format!("wants {wanted} pods, has {pods} and says {said}"))
}

/// A node has one pod, of the current template.
fn daemon_set(truth: &Truth, object: &Value) -> Option<String> {
    let mut nodes: Vec<String> =
        truth.list("nodes/").iter().map(|(_, node)| node["metadata"]["name"].to_string()).collect();
    let pods = controlled(truth, object);
    let mut hosts: Vec<String> =
        pods.iter().filter(|pod| !has_ended(pod)).map(|pod| pod["spec"]["nodeName"].to_string()).collect();
    nodes.sort();
    hosts.sort();
    let status = &object["status"];
    let is_seen = status["observedGeneration"] == object["metadata"]["generation"];
    let counts = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "numberAvailable",
        "updatedNumberScheduled",
    ];
    let is_done = is_seen && counts.iter().all(|count| number(&status[*count]) == nodes.len() as i64);
    (!is_done || hosts != nodes).then(|| format!("has pods on {hosts:?} of {nodes:?}, and is {status}"))
}

/// The ordinals that are wanted and no other, all of the current template.
fn stateful_set(truth: &Truth, object: &Value) -> Option<String> {
    let (wanted, status) = (number(&object["spec"]["replicas"]), &object["status"]);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let mut there: Vec<String> = controlled(truth, object).iter().map(|pod| text(&pod["metadata"]["name"])).collect();
    there.sort();
    let named: Vec<String> = (0..wanted).map(|ordinal| format!("{name}-{ordinal}")).collect();
    let is_seen = status["observedGeneration"] == object["metadata"]["generation"];
    let counts = ["replicas", "readyReplicas", "availableReplicas", "updatedReplicas", "currentReplicas"];
    let is_done = is_seen && counts.iter().all(|count| number(&status[*count]) == wanted);
    (!is_done || there != named).then(|| format!("wants {wanted}, has {there:?}, and is {status}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn job(truth: &Truth, object: &Value) -> Option<String> {
    let condition = |kind: &str| {
        list(&object["status"]["conditions"]).iter().any(|one| one["type"] == kind && one["status"] == "True")
    };
    let active = controlled(truth, object).iter().filter(|pod| !has_ended(pod)).count();
    let wanted = number(&object["spec"]["completions"]);
    let right = match (condition("Complete"), condition("Failed")) {
        // An index succeeds once. Without indexes, a pod that was made while the answer about another was lost counts.
        (true, false) if object["spec"]["completionMode"] == "Indexed" => {
            number(&object["status"]["succeeded"]) == wanted
        }
        (true, false) => number(&object["status"]["succeeded"]) >= wanted,
        (false, true) => number(&object["status"]["failed"]) > number(&object["spec"]["backoffLimit"]),
        _ => false,
    };
    (!right || active > 0).then(|| format!("of {wanted} completions has {active} active pods and {}", object["status"]))
}

fn pod(object: &Value) -> Option<String> {
    let held = list(&object["metadata"]["finalizers"]);
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    let is_placed = !object["spec"]["nodeName"].is_null();
    let right = is_placed && (has_ended(object) || phase == "Running");
    (!right || !held.is_empty()).then(|| format!("is {phase} on {}, held by {held:?}", object["spec"]["nodeName"]))
}

/// The Service's slices name exactly the addresses of its ready pods.
fn service(truth: &Truth, key: &str, object: &Value) -> Option<String> {
    let selector = object["spec"]["selector"].as_object()?;
    let (_, path) = key.split_once('/')?;
    let (namespace, name) = path.split_once('/')?;
    let is_ready = |pod: &Value| {
        list(&pod["status"]["conditions"]).iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    let is_meant = |pod: &Value| selector.iter().all(|(label, value)| &pod["metadata"]["labels"][label] == value);
    let wanted: BTreeSet<String> = truth
        .list(&format!("pods/{namespace}/"))
        .iter()
        .filter(|(_, pod)| is_meant(pod) && is_ready(pod) && !has_ended(pod))
        .filter_map(|(_, pod)| Some(pod["status"]["podIP"].as_str()?.to_owned()))
        .collect();
    let slices = truth.list(&format!("endpointslices.discovery.k8s.io/{namespace}/"));
    let mine = slices.iter().filter(|(_, slice)| slice["metadata"]["labels"]["kubernetes.io/service-name"] == name);
    let ready = mine.flat_map(|(_, slice)| list(&slice["endpoints"]).to_vec());
    let ready = ready.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    let named: BTreeSet<String> = ready
        .flat_map(|endpoint| {
            list(&endpoint["addresses"]).iter().filter_map(|one| Some(one.as_str()?.to_owned())).collect::<Vec<_>>()
        })
        .collect();
    (named != wanted).then(|| format!("sends to {named:?} where {wanted:?} are ready"))
}

/// A cluster address has an IPAddress that names the Service.
fn address(truth: &Truth, key: &str, object: &Value) -> Option<String> {
    let ip = object["spec"]["clusterIP"].as_str().filter(|ip| !matches!(*ip, "" | "None"))?;
    let addresses = truth.list(&format!("ipaddresses.networking.k8s.io/{ip}"));
    let parents: Vec<String> = addresses
        .iter()
        .filter(|(_, address)| address["metadata"]["name"] == ip)
        .map(|(_, address)| &address["spec"]["parentRef"])
        .map(|parent| format!("services/{}/{}", text(&parent["namespace"]), text(&parent["name"])))
        .collect();
    (parents != [key]).then(|| format!("has the address {ip}, and that is of {parents:?}"))
}

/// An IPAddress is of a Service that has the address.
fn holder(truth: &Truth, object: &Value) -> Option<String> {
    let parent = &object["spec"]["parentRef"];
    let key = format!("services/{}/{}", text(&parent["namespace"]), text(&parent["name"]));
    let services = truth.list(&key);
    let service = services.iter().find(|(found, _)| **found == *key);
    let has_it = service.is_some_and(|(_, service)| service["spec"]["clusterIP"] == object["metadata"]["name"]);
    (!has_it).then(|| format!("is left over from {key}"))
}

fn namespaces(truth: &Truth) -> Vec<String> {
    let there: BTreeSet<String> =
        truth.list("namespaces/").into_iter().filter_map(|(key, _)| Some(key.split_once('/')?.1.to_owned())).collect();
    let mut complaints = Vec::new();
    for (key, object) in truth.list("") {
        if object["metadata"]["namespace"].as_str().is_some_and(|namespace| !there.contains(namespace)) {
            complaints.push(format!("{key} is in a namespace that is gone"));
        }
    }
    for namespace in NAMESPACES.iter().filter(|namespace| there.contains(**namespace)) {
        for needed in ["serviceaccounts/{}/default", "configmaps/{}/kube-root-ca.crt"] {
            let key = needed.replace("{}", namespace);
            if truth.get(&key).is_none() {
                complaints.push(format!("{key} is missing"));
            }
        }
    }
    complaints
}

/// Every node is ready and holds no more than it can.
fn nodes(truth: &Truth) -> Vec<String> {
    let mut requested: BTreeMap<String, i64> = BTreeMap::new();
    for (_, pod) in truth.list("pods/").iter().filter(|(_, pod)| !has_ended(pod)) {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        *requested.entry(node).or_default() += cpu_milli(pod);
    }
    let mut complaints = Vec::new();
    for (key, node) in truth.list("nodes/") {
        let ready =
            list(&node["status"]["conditions"]).iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
        let taints = list(&node["spec"]["taints"]);
        if !ready || !taints.is_empty() {
            complaints.push(format!("{key} has taints {taints:?}"));
        }
    }
    let full = requested.into_iter().filter(|(_, cpu)| *cpu > CPU_MILLI);
    complaints.extend(full.map(|(node, cpu)| format!("{node} is asked for {cpu} of {CPU_MILLI} milli-CPU")));
    complaints
}
