use serde_json::{Map, Value, json};

use super::volume;
use crate::{
    quantity::Quantity,
    strategy::defaults::{drop_zero, empty_object, resource_list, resources},
    value::{Object, get, is_empty, items, items_mut, object_at, set_default, text},
};

/// The defaults of a pod: those of every spec, and those that only a pod itself has.
pub(super) fn pod(object: &mut Value) {
    let Some(spec) = crate::strategy::defaults::spec(object) else { return };
    // Requests follow limits before anything else looks at resources.
    for list in ["containers", "initContainers"] {
        for container in items_mut(spec, list).iter_mut().filter_map(Value::as_object_mut) {
            resources(container);
            requests_from_limits(container);
        }
    }
    pod_level_requests(spec);
    set_default(spec, "enableServiceLinks", true);
    if get(spec, "hostNetwork") == &Value::Bool(true) {
        host_ports(spec);
    }
    pod_spec(spec);
}

/// The defaults of `owner.template`.
pub(crate) fn template(owner: &mut Object) {
    let Some(template) = object_at(owner, "template") else { return };
    empty_object(template, "metadata");
    if let Some(spec) = object_at(template, "spec") {
        pod_spec(spec);
    }
}

fn pod_spec(spec: &mut Object) {
    set_default(spec, "dnsPolicy", "ClusterFirst");
    set_default(spec, "restartPolicy", "Always");
    set_default(spec, "schedulerName", "default-scheduler");
    set_default(spec, "terminationGracePeriodSeconds", 30);
    empty_object(spec, "securityContext");
    resource_list(spec, "overhead");
    resources(spec);
    service_account(spec);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items_mut(spec, list).iter_mut().filter_map(Value::as_object_mut) {
            self::container(container);
        }
    }
    for volume in items_mut(spec, "volumes").iter_mut().filter_map(Value::as_object_mut) {
        volume::default(volume);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are shown.
fn service_account(spec: &mut Object) {
    let name = match text(get(spec, "serviceAccountName")) {
        "" => get(spec, "serviceAccount").clone(),
        _ => get(spec, "serviceAccountName").clone(),
    };
    if !is_empty(&name) {
        if get(spec, "serviceAccountName") != &name {
            spec.insert("serviceAccountName".into(), name.clone());
        }
        if get(spec, "serviceAccount") != &name {
            spec.insert("serviceAccount".into(), name);
        }
    }
}

fn container(container: &mut Object) {
    if is_empty(get(container, "imagePullPolicy")) {
        let policy = pull_policy(text(get(container, "image")));
        container.insert("imagePullPolicy".into(), policy.into());
    }
    set_default(container, "terminationMessagePath", "/dev/termination-log");
    set_default(container, "terminationMessagePolicy", "File");
    empty_object(container, "resources");
    resources(container);
    for port in items_mut(container, "ports").iter_mut().filter_map(Value::as_object_mut) {
        set_default(port, "protocol", "TCP");
        drop_zero(port, &["hostPort"]);
    }
    for variable in items_mut(container, "env").iter_mut().filter_map(Value::as_object_mut) {
        if let Some(source) = variable.get_mut("valueFrom").and_then(Value::as_object_mut) {
            field_ref(source);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = container.get_mut("lifecycle").and_then(Value::as_object_mut) {
        for handler in lifecycle.values_mut().filter_map(Value::as_object_mut) {
            http_get(handler);
        }
    }
}

fn probe(probe: &mut Object) {
    // A zero is "not set" here: upstream holds these by value.
    for (key, default) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if get(probe, key).as_i64().unwrap_or(0) == 0 {
            probe.insert(key.into(), default.into());
        }
    }
    drop_zero(probe, &["initialDelaySeconds"]);
    http_get(probe);
    if let Some(grpc) = probe.get_mut("grpc").and_then(Value::as_object_mut)
        && get(grpc, "service").is_null()
    {
        grpc.insert("service".into(), "".into());
    }
}

fn http_get(handler: &mut Object) {
    if let Some(get) = handler.get_mut("httpGet").and_then(Value::as_object_mut) {
        set_default(get, "path", "/");
        set_default(get, "scheme", "HTTP");
    }
}

pub(super) fn field_ref(source: &mut Object) {
    if let Some(field) = source.get_mut("fieldRef").and_then(Value::as_object_mut) {
        set_default(field, "apiVersion", "v1");
    }
}

/// `Always` for a tag that moves, `IfNotPresent` for one that names a version.
pub(super) fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = match image.split_once('@') {
        Some((name, _)) => (name, true),
        None => (image, false),
    };
    // A colon before the last slash belongs to the registry's port.
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if !digest => "Always",
        _ => "IfNotPresent",
    }
}

fn requests_from_limits(container: &mut Object) {
    let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object) else { return };
    let requests = resources.get("requests").and_then(Value::as_object);
    let missing: Map<String, Value> = limits
        .iter()
        .filter(|(resource, _)| requests.is_none_or(|requests| !requests.contains_key(*resource)))
        .map(|(resource, amount)| (resource.clone(), amount.clone()))
        .collect();
    if !missing.is_empty()
        && let Some(requests) = object_at(resources, "requests")
    {
        requests.extend(missing);
    }
}

/// Requests of the pod as a whole: what its containers ask for together, else the pod's limit.
fn pod_level_requests(spec: &mut Object) {
    let Some(limits) = get(spec, "resources").get("limits").and_then(Value::as_object) else { return };
    let requests = &get(spec, "resources")["requests"];
    let mut missing = Map::new();
    for (resource, limit) in limits.iter().filter(|(resource, _)| requests.get(resource.as_str()).is_none()) {
        let total = items(get(spec, "containers"))
            .iter()
            .map(|container| Quantity::or_zero(&container["resources"]["requests"][resource.as_str()]))
            .fold(Quantity::ZERO, |sum, one| sum + one);
        let request = if total.is_zero() { limit.clone() } else { json!(total.to_string()) };
        missing.insert(resource.clone(), request);
    }
    if !missing.is_empty()
        && let Some(resources) = object_at(spec, "resources")
        && let Some(requests) = object_at(resources, "requests")
    {
        requests.extend(missing);
    }
}

/// On the host's network a container's port is the host's port.
fn host_ports(spec: &mut Object) {
    for list in ["containers", "initContainers"] {
        for container in items_mut(spec, list).iter_mut().filter_map(Value::as_object_mut) {
            for port in items_mut(container, "ports").iter_mut().filter_map(Value::as_object_mut) {
                if get(port, "hostPort").as_i64().unwrap_or(0) == 0
                    && let Some(number) = port.get("containerPort").cloned()
                {
                    port.insert("hostPort".into(), number);
                }
            }
        }
    }
}
