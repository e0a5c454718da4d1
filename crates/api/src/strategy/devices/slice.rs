//! What a driver offers.

use serde_json::Value;

use super::{SPEC, attribute_name, check, claim::EFFECTS, driver, each, unique};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    strategy::rules::Errors,
    value::{entries, int, is_set, items, text},
};

const MAX_DEVICES: usize = 128;
/// Of devices with taints or counters, which take more to look at.
const MAX_DEMANDING_DEVICES: usize = 64;
const MAX_COUNTER_SETS: usize = 8;
const MAX_CONSUMPTIONS: usize = 2;
const MAX_TAINTS: usize = 16;
const MAX_ATTRIBUTES: usize = 32;
const MAX_VALUE_BYTES: usize = 64;
const MAX_POOL_BYTES: usize = 253;
const BY_SLICE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
const BY_DEVICE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` \
                         is set to true in the ResourceSlice spec";

pub(super) fn validate(spec: &Value, errors: &mut Errors) {
    driver(&spec["driver"], &SPEC.child("driver"), errors);
    let pool = SPEC.child("pool");
    pool_name(&spec["pool"]["name"], &pool.child("name"), errors);
    if int(&spec["pool"]["resourceSliceCount"]) <= 0 {
        let count = spec["pool"]["resourceSliceCount"].clone();
        errors.push(FieldError::invalid(&pool.child("resourceSliceCount"), count, "must be greater than zero"));
    }
    if int(&spec["pool"]["generation"]) < 0 {
        let why = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(&pool.child("generation"), spec["pool"]["generation"].clone(), why));
    }
    let set = nodes(spec, &SPEC, errors);
    match set.as_slice() {
        [] => errors.push(FieldError::required(&SPEC, BY_SLICE)),
        [_] => {}
        several => {
            let why = format!("{BY_SLICE}, but multiple fields are set");
            errors.push(FieldError::invalid(&SPEC, format!("{{{}}}", several.join(", ")), why));
        }
    }
    if is_set(&spec["sharedCounters"]) && is_set(&spec["devices"]) {
        errors.push(FieldError::invalid(&SPEC, "", "only one of `sharedCounters` or `devices` is allowed"));
    }
    let demanding =
        |device: &Value| !items(&device["taints"]).is_empty() || !items(&device["consumesCounters"]).is_empty();
    let most = if items(&spec["devices"]).iter().any(demanding) { MAX_DEMANDING_DEVICES } else { MAX_DEVICES };
    let (devices, each_says) = (SPEC.child("devices"), spec["perDeviceNodeSelection"] == true);
    each(&spec["devices"], most, &devices, errors, |one, path, errors| device(one, each_says, path, errors));
    unique(&spec["devices"], Some("name"), &devices, errors);
    let sets = SPEC.child("sharedCounters");
    each(&spec["sharedCounters"], MAX_COUNTER_SETS, &sets, errors, |set, path, errors| {
        check::name(&set["name"], names::label, &path.child("name"), errors);
        counters(&set["counters"], &path.child("counters"), errors);
    });
    unique(&spec["sharedCounters"], Some("name"), &sets, errors);
}

/// The attributes that are lists.
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

/// What is kept of devices, and what nobody here knows how to hand out.
pub(super) fn warnings(spec: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    for (i, device) in items(&spec["devices"]).iter().enumerate() {
        let conditions = !items(&device["bindingConditions"]).is_empty();
        let counted = device["nodeAllocatableResourceMappings"].is_object();
        for (is_so, field, why) in [
            (
                device["allowMultipleAllocations"] == true,
                "allowMultipleAllocations",
                "shares no device between claims, and gives this one to nobody",
            ),
            (conditions, "bindingConditions", "waits for no device to be made ready, and gives this one to nobody"),
            (counted, "nodeAllocatableResourceMappings", "takes nothing off a node's resources for a device"),
        ] {
            if is_so {
                warnings.push(format!("spec.devices[{i}].{field}: this cluster {why}"));
            }
        }
        for (name, attribute) in device["attributes"].as_object().into_iter().flatten() {
            for kind in LISTS.iter().filter(|kind| is_set(&attribute[**kind])) {
                let why = "no selector and no constraint of this cluster sees a list";
                warnings.push(format!("spec.devices[{i}].attributes[{name}].{kind}: {why}"));
            }
        }
    }
    warnings
}

pub(super) fn pool_name(name: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if check::required(name, path, errors) {
        if text(name).len() > MAX_POOL_BYTES {
            errors.push(FieldError::too_long(path, MAX_POOL_BYTES));
        }
        for part in text(name).split('/') {
            check::faults(names::subdomain(part), part, path, errors);
        }
    }
}

/// What says which nodes are meant, of a slice or of a device.
fn nodes(of: &Value, path: &FieldPath<'_>, errors: &mut Errors) -> Vec<&'static str> {
    let mut set = Vec::new();
    if is_set(&of["nodeName"]) {
        if text(&of["nodeName"]).is_empty() {
            let why = "must be either unset or set to a non-empty string";
            errors.push(FieldError::invalid(&path.child("nodeName"), "", why));
        } else {
            set.push("`nodeName`");
            check::faults(
                names::subdomain(text(&of["nodeName"])),
                text(&of["nodeName"]),
                &path.child("nodeName"),
                errors,
            );
        }
    }
    if is_set(&of["nodeSelector"]) {
        set.push("`nodeSelector`");
        let (selector, path) = (&of["nodeSelector"], path.child("nodeSelector"));
        check::node_selector(selector, &path, errors);
        let terms = &selector["nodeSelectorTerms"];
        if items(terms).len() > 1 {
            let why = "must have exactly one node selector term";
            errors.push(FieldError::invalid(&path.child("nodeSelectorTerms"), terms.clone(), why));
        }
    }
    for (key, name) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        match &of[key] {
            Value::Bool(true) => set.push(name),
            Value::Bool(false) => {
                errors.push(FieldError::invalid(&path.child(key), false, "must be either unset or set to true"));
            }
            _ => {}
        }
    }
    set
}

fn device(device: &Value, says_nodes: bool, path: &FieldPath<'_>, errors: &mut Errors) {
    check::name(&device["name"], names::label, &path.child("name"), errors);
    let (attributes, capacity) = (&device["attributes"], &device["capacity"]);
    let count = entries(attributes).count() + entries(capacity).count();
    if count > MAX_ATTRIBUTES {
        let why = format!("the total number of attributes and capacities must not exceed {MAX_ATTRIBUTES}");
        errors.push(FieldError::invalid(path, count, why));
    }
    for (name, value) in entries(attributes) {
        let path = path.child("attributes");
        let path = path.key(name);
        attribute_name(name, false, &path, errors);
        attribute(value, &path, errors);
    }
    for (name, amount) in entries(capacity) {
        let path = path.child("capacity");
        let path = path.key(name);
        attribute_name(name, false, &path, errors);
        check::quantity(&amount["value"], &path.child("value"), errors);
        if is_set(&amount["requestPolicy"]) && device["allowMultipleAllocations"] != true {
            let path = path.child("requestPolicy");
            errors.push(FieldError::forbidden(&path, "allowMultipleAllocations must be true"));
        }
    }
    each(&device["taints"], MAX_TAINTS, &path.child("taints"), errors, |taint, path, errors| {
        check::name(&taint["key"], names::qualified_name, &path.child("key"), errors);
        check::optional_name(&taint["value"], names::label_value, &path.child("value"), errors);
        check::one_of(&taint["effect"], &EFFECTS, &path.child("effect"), errors);
    });
    let list = path.child("consumesCounters");
    each(&device["consumesCounters"], MAX_CONSUMPTIONS, &list, errors, |set, path, errors| {
        check::name(&set["counterSet"], names::label, &path.child("counterSet"), errors);
        counters(&set["counters"], &path.child("counters"), errors);
    });
    unique(&device["consumesCounters"], Some("counterSet"), &list, errors);
    let keys = ["nodeName", "nodeSelector", "allNodes"];
    if says_nodes {
        let set = nodes(device, path, errors);
        match set.as_slice() {
            [] => errors.push(FieldError::required(path, BY_DEVICE)),
            [_] => {}
            several => errors.push(FieldError::invalid(path, format!("{{{}}}", several.join(", ")), BY_DEVICE)),
        }
    } else if keys.iter().any(|key| is_set(&device[*key])) {
        let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in \
                   the ResourceSlice spec";
        errors.push(FieldError::invalid(path, Value::Null, why));
    }
}

fn attribute(attribute: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let kinds = ["bool", "int", "string", "version"].into_iter().chain(LISTS);
    let set: Vec<&str> = kinds.filter(|kind| is_set(&attribute[*kind])).collect();
    if set.len() != 1 {
        let value = if set.is_empty() { Value::from("") } else { attribute.clone() };
        errors.push(FieldError::invalid(path, value, "exactly one value must be specified"));
    }
    for kind in set {
        let (value, path) = (&attribute[kind], path.child(kind));
        let one = |value: &Value, path: &FieldPath<'_>, errors: &mut Errors| {
            let Value::String(text) = value else { return };
            if kind.starts_with("version") && knarr_cel::Value::semver(text).is_err() {
                let why = "must be a string compatible with semver.org spec 2.0.0";
                errors.push(FieldError::invalid(path, text.as_str(), why));
            }
            if text.len() > MAX_VALUE_BYTES {
                errors.push(FieldError::too_long(path, MAX_VALUE_BYTES));
            }
        };
        match value {
            Value::Array(list) if list.is_empty() => {
                errors.push(FieldError::invalid(&path, value.clone(), "must not be empty if specified"));
            }
            Value::Array(_) => each(value, usize::MAX, &path, errors, one),
            value => one(value, &path, errors),
        }
    }
}

fn counters(counters: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if check::required(counters, path, errors) {
        for (name, counter) in entries(counters) {
            let path = path.key(name);
            check::faults(names::label(name), name, &path, errors);
            check::quantity(&counter["value"], &path.child("value"), errors);
        }
    }
}
