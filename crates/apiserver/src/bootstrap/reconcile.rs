use futures::stream::{self, StreamExt, TryStreamExt};
use knarr_api::registry::Resource;
use knarr_api::status::ApiError;
use serde_json::Value;

use super::{BootstrapConfig, bindings, flow_control, objects, policy};
use crate::aggregation::local_services;
use crate::alloc::DEFAULT_CIDR;
use crate::authn::server_itself;
use crate::authz::{Rule, uncovered};
use crate::builtin;
use crate::contract::{Lookup, UserInfo};

/// How many writes are on their way at a time; the store puts all that wait on disk together.
const CONCURRENT_WRITES: usize = 256;
const ALREADY_EXISTS: u16 = 409;
const PROVISIONER_ROLE: &str = "knarr:local-provisioner";

/// What a start changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub created: usize,
    pub changed: usize,
    pub kept: usize,
}

#[derive(Clone, Copy)]
enum Outcome {
    Created,
    Changed,
    Kept,
}

/// What is done where the object exists: brings `found` to what it should be, and tells if that changed it.
type Repair = fn(found: &mut Value, wanted: &Value) -> bool;

struct Item {
    resource: &'static Resource,
    object: Value,
    repair: Repair,
}

/// Makes what a cluster must hold, and repairs what it holds. Running it twice changes nothing.
pub async fn bootstrap(lookup: &dyn Lookup, config: &BootstrapConfig) -> Result<Report, ApiError> {
    let user = server_itself();
    let mut report = Report::default();
    // Namespaces come first: nothing can be created in one that does not exist.
    let namespaces = items(builtin::namespaces(), objects::namespaces(), keep);
    run(lookup, &user, namespaces, &mut report).await?;
    // A user may change or delete the storage class for good. It is made once, before the role of those who serve it:
    // where that role is, it has been made.
    if lookup.get(builtin::cluster_roles(), "", PROVISIONER_ROLE).is_none() {
        let classes = items(builtin::storage_classes(), vec![objects::storage_class()], keep);
        run(lookup, &user, classes, &mut report).await?;
    }
    run(lookup, &user, rest(config), &mut report).await?;
    let services = local_services();
    let names = services.iter().map(|service| crate::json::name(service).to_owned());
    let marks = names.map(|name| (builtin::api_services(), name, AVAILABLE));
    let marks = marks.chain([(builtin::service_cidrs(), DEFAULT_CIDR.to_owned(), READY)]);
    let marks = stream::iter(marks).map(|(resource, name, condition)| mark(lookup, &user, resource, name, condition));
    marks.buffer_unordered(CONCURRENT_WRITES).try_collect::<()>().await?;
    Ok(report)
}

/// What the server says of an object that it makes: the condition's type, reason and message.
type Condition = [&'static str; 3];

/// Of a group version that this server answers; one that somebody has given to a server of theirs is theirs.
const AVAILABLE: Condition = ["Available", "Local", "Local APIServices are always available"];
/// Of the range that the server was started with.
const READY: Condition = ["Ready", "", "Kubernetes default Service CIDR is ready"];

/// Says a first word about an object; whatever somebody has said of it stays.
async fn mark(
    lookup: &dyn Lookup,
    user: &UserInfo,
    resource: &'static Resource,
    name: String,
    [kind, reason, message]: Condition,
) -> Result<(), ApiError> {
    let is_done = |found: &Value| {
        let conditions = found["status"]["conditions"].as_array();
        found["spec"]["service"].is_object() || conditions.is_some_and(|conditions| !conditions.is_empty())
    };
    if lookup.get_fresh(resource, "", &name).await?.is_none_or(|found| is_done(&found.value())) {
        return Ok(());
    }
    let mut mark = |object: &mut Value| {
        let condition = serde_json::json!({
            "type": kind, "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": object["metadata"]["creationTimestamp"],
        });
        object["status"] = serde_json::json!({ "conditions": [condition] });
        Ok(())
    };
    lookup.modify(user, resource, "status", "", &name, &mut mark).await.map(drop)
}

fn rest(config: &BootstrapConfig) -> Vec<Item> {
    let (roles, role_bindings) = bindings::namespaced();
    let mut all = items(builtin::cluster_roles(), policy::cluster_roles(), repair_role);
    all.extend(items(builtin::cluster_role_bindings(), bindings::cluster_role_bindings(), repair_binding));
    all.extend(items(builtin::roles(), roles, repair_role));
    all.extend(items(builtin::role_bindings(), role_bindings, repair_binding));
    all.extend(items(builtin::priority_classes(), objects::priority_classes(), keep));
    let flow = flow_control::all();
    all.extend(flow.map(|(resource, object)| Item { resource, object, repair: flow_control::repair }));
    all.extend(items(builtin::api_services(), local_services(), keep));
    all.extend(items(builtin::service_cidrs(), vec![objects::service_cidr(config)], keep));
    all.extend(items(builtin::services(), vec![objects::kubernetes_service(config)], repair_service));
    all.extend(items(builtin::endpoints(), vec![objects::kubernetes_endpoints(config)], repair_subsets));
    all.extend(items(builtin::endpoint_slices(), vec![objects::kubernetes_endpoint_slice(config)], repair_slice));
    all.extend(items(builtin::config_maps(), vec![objects::authentication_config(config)], repair_data));
    all
}

fn items(resource: &'static Resource, objects: Vec<Value>, repair: Repair) -> Vec<Item> {
    objects.into_iter().map(|object| Item { resource, object, repair }).collect()
}

async fn run(lookup: &dyn Lookup, user: &UserInfo, items: Vec<Item>, report: &mut Report) -> Result<(), ApiError> {
    let outcomes: Vec<Outcome> = stream::iter(items)
        .map(|item| ensure(lookup, user, item))
        .buffer_unordered(CONCURRENT_WRITES)
        .try_collect()
        .await?;
    for outcome in outcomes {
        match outcome {
            Outcome::Created => report.created += 1,
            Outcome::Changed => report.changed += 1,
            Outcome::Kept => report.kept += 1,
        }
    }
    Ok(())
}

async fn ensure(lookup: &dyn Lookup, user: &UserInfo, item: Item) -> Result<Outcome, ApiError> {
    let Item { resource, object, repair } = item;
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();

    match lookup.get(resource, &namespace, &name) {
        Some(found) if !repair(&mut found.value(), &object) => return Ok(Outcome::Kept),
        Some(_) => {}
        None => match lookup.create(user, resource, object.clone()).await {
            Ok(_) => return Ok(Outcome::Created),
            Err(error) if error.code() == ALREADY_EXISTS => {}
            Err(error) => return Err(error),
        },
    }
    let mut changed = false;
    let mut change = |found: &mut Value| {
        changed = repair(found, &object);
        Ok(())
    };
    lookup.modify(user, resource, "", &namespace, &name, &mut change).await?;
    Ok(if changed { Outcome::Changed } else { Outcome::Kept })
}

/// For what belongs to the user once it is there.
fn keep(_found: &mut Value, _wanted: &Value) -> bool {
    false
}

fn is_taken_over(found: &Value) -> bool {
    found["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] == "false"
}

/// Rules may be added by a user, but none of the default ones may be missing.
fn repair_role(found: &mut Value, wanted: &Value) -> bool {
    // An aggregated role has no rules of its own.
    if is_taken_over(found) || wanted.get("aggregationRule").is_some() {
        return false;
    }
    let parse = |role: &Value| serde_json::from_value::<Vec<Rule>>(role["rules"].clone()).unwrap_or_default();
    let mut rules = parse(found);
    let missing = uncovered(&rules, &parse(wanted));
    if missing.is_empty() {
        return false;
    }
    rules.extend(missing);
    found["rules"] = serde_json::to_value(rules).unwrap_or_default();
    true
}

/// Subjects may be added, but none of the default ones may be missing.
fn repair_binding(found: &mut Value, wanted: &Value) -> bool {
    if is_taken_over(found) {
        return false;
    }
    let empty = Vec::new();
    let present = found["subjects"].as_array().unwrap_or(&empty);
    let same =
        |a: &Value, b: &Value| a["kind"] == b["kind"] && a["name"] == b["name"] && a["namespace"] == b["namespace"];
    let wanted = wanted["subjects"].as_array().unwrap_or(&empty);
    let missing: Vec<Value> = wanted.iter().filter(|w| !present.iter().any(|p| same(p, w))).cloned().collect();
    if missing.is_empty() {
        return false;
    }
    let all: Vec<Value> = present.iter().cloned().chain(missing).collect();
    found["subjects"] = all.into();
    true
}

fn replace(found: &mut Value, wanted: &Value, field: &str) -> bool {
    if found[field] == wanted[field] {
        return false;
    }
    found[field] = wanted[field].clone();
    true
}

/// The port may have been changed on the command line; the cluster address stays what it was.
fn repair_service(found: &mut Value, wanted: &Value) -> bool {
    replace(&mut found["spec"], &wanted["spec"], "ports")
}

fn repair_subsets(found: &mut Value, wanted: &Value) -> bool {
    replace(found, wanted, "subsets")
}

fn repair_slice(found: &mut Value, wanted: &Value) -> bool {
    let ports = replace(found, wanted, "ports");
    replace(found, wanted, "endpoints") || ports
}

fn repair_data(found: &mut Value, wanted: &Value) -> bool {
    replace(found, wanted, "data")
}
