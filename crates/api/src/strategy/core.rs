//! The small kinds of the core group.

use serde_json::{Value, json};

use super::{
    Part, check, defaults,
    rules::{Errors, Generation, Rules, by_path},
};
use crate::{
    field::{FieldError, FieldPath},
    meta::{NameRule, names},
    quantity::Quantity,
    value::{
        entries, get, is_empty, is_set, items, items_mut, keep, object_at, object_mut, same, set_default, text, truth,
    },
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");
pub(super) const LARGEST_DATA_BYTES: usize = 1024 * 1024;

pub(super) static CONFIG_MAP: Rules = Rules {
    validate: |object, errors| {
        let mut size = 0;
        for list in ["data", "binaryData"] {
            let path = FieldPath::new(list);
            for (key, value) in entries(&object[list]) {
                let path = path.key(key);
                check::faults(names::config_key(key), key, &path, errors);
                if list == "data" && object["binaryData"].get(key).is_some() {
                    errors.push(FieldError::invalid(&path, key.as_str(), "duplicate of key present in binaryData"));
                }
                size += text(value).len();
            }
        }
        if size > LARGEST_DATA_BYTES {
            errors.push(FieldError::too_long(&FieldPath::ROOT.key(""), LARGEST_DATA_BYTES));
        }
    },
    validate_update: |new, old, _, errors| sealed(new, old, &["data", "binaryData"], errors),
    ..Rules::DATA
};

/// An object marked `immutable` stays so, and its data stays.
pub(super) fn sealed(new: &Value, old: &Value, keys: &[&str], errors: &mut Errors) {
    if !truth(&old["immutable"]) {
        return;
    }
    let why = "field is immutable when `immutable` is set";
    if !truth(&new["immutable"]) {
        errors.push(FieldError::forbidden(&FieldPath::new("immutable"), why));
    }
    for key in keys {
        if !same(&new[*key], &old[*key]) {
            errors.push(FieldError::forbidden(&FieldPath::new(key), why));
        }
    }
}

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) static NAMESPACE: Rules = Rules {
    name_rule: NameRule::Label,
    generation: Generation::Never,
    initial_status: Some(|| json!({"phase": "Active"})),
    default: |object| {
        let name = text(&object["metadata"]["name"]).to_owned();
        if let Some(meta) = object_mut(object, "metadata")
            && !name.is_empty()
            && let Some(labels) = object_at(meta, "labels")
        {
            labels.insert(NAME_LABEL.into(), name.into());
        }
    },
    create: |object| {
        if let Some(spec) = defaults::spec(object) {
            // The namespace controller takes this away when nothing is left inside.
            let mut finalizers = items(get(spec, "finalizers")).to_vec();
            if !finalizers.contains(&json!("kubernetes")) {
                finalizers.push(json!("kubernetes"));
            }
            spec.insert("finalizers".into(), finalizers.into());
        }
    },
    update: |new, old, part| {
        if part == Part::Main {
            keep(new, old, "spec");
        }
    },
    validate: |object, errors| {
        let path = SPEC.child("finalizers");
        for finalizer in items(&object["spec"]["finalizers"]).iter().map(text) {
            let faults = names::qualified_name(finalizer);
            if faults.is_empty() && !finalizer.contains('/') && finalizer != "kubernetes" {
                let why = "name is neither a standard finalizer name nor is it fully qualified";
                errors.push(FieldError::invalid(&path, finalizer, why));
            }
            check::faults(faults, finalizer, &path, errors);
        }
    },
    validate_update: |new, _, part, errors| {
        let (phase, dying) = (text(&new["status"]["phase"]), is_set(&new["metadata"]["deletionTimestamp"]));
        let path = FieldPath::new("status");
        let path = path.child("phase");
        if part == Part::Subresource("status") && phase == "Active" && dying {
            let why = "may only be 'Active' if `deletionTimestamp` is empty";
            errors.push(FieldError::invalid(&path, phase, why));
        } else if part == Part::Subresource("status") && phase == "Terminating" && !dying {
            let why = "may only be 'Terminating' if `deletionTimestamp` is not empty";
            errors.push(FieldError::invalid(&path, phase, why));
        }
    },
    fields: &["status.phase"],
    ..Rules::WITH_STATUS
};

pub(super) static NODE: Rules = Rules {
    generation: Generation::Never,
    // A node may register with its status.
    initial_status: Some(|| json!({})),
    status_on_create: true,
    default: |object| {
        defaults::status_resource_lists(object, &["capacity", "allocatable"]);
        let capacity = object["status"]["capacity"].clone();
        if let Some(status) = object_mut(object, "status")
            && !is_empty(&capacity)
        {
            set_default(status, "allocatable", capacity);
        }
        let Some(spec) = defaults::spec(object) else { return };
        let (one, many) = (get(spec, "podCIDR").clone(), get(spec, "podCIDRs").clone());
        if !is_empty(&one) && is_empty(&many) {
            spec.insert("podCIDRs".into(), json!([one]));
        } else if is_empty(&one)
            && let Some(first) = items(&many).first()
        {
            spec.insert("podCIDR".into(), first.clone());
        }
    },
    validate: node,
    validate_update: |new, old, part, errors| {
        let (spec, before) = (&new["spec"], &old["spec"]);
        if part != Part::Main {
            return;
        }
        if !is_empty(&before["podCIDRs"]) && !same(&spec["podCIDRs"], &before["podCIDRs"]) {
            let why = "node updates may not change podCIDR except from \"\" to valid";
            errors.push(FieldError::forbidden(&SPEC.child("podCIDRs"), why));
        }
        if !is_empty(&before["providerID"]) && !same(&spec["providerID"], &before["providerID"]) {
            let why = "node updates may not change providerID except from \"\" to valid";
            errors.push(FieldError::forbidden(&SPEC.child("providerID"), why));
        }
    },
    fields: &["spec.unschedulable"],
    field: |node, field| match field {
        "spec.unschedulable" => if truth(&node["spec"]["unschedulable"]) { "true" } else { "false" }.into(),
        _ => by_path(node, field),
    },
    ..Rules::WITH_STATUS
};

fn node(node: &Value, errors: &mut Errors) {
    let list = SPEC.child("taints");
    let mut taken: Vec<(&str, &str)> = Vec::new();
    for (i, taint) in items(&node["spec"]["taints"]).iter().enumerate() {
        let path = list.index(i);
        let (key, effect) = (text(&taint["key"]), text(&taint["effect"]));
        check::faults(names::qualified_name(key), key, &path.child("key"), errors);
        let faults = names::label_value(text(&taint["value"]));
        check::faults(faults, text(&taint["value"]), &path.child("value"), errors);
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        check::one_of(&taint["effect"], &effects, &path.child("effect"), errors);
        if taken.contains(&(key, effect)) {
            let why = "taints must be unique by key and effect pair";
            errors.push(FieldError { detail: why.into(), ..FieldError::duplicate(&path, taint.clone()) });
        }
        taken.push((key, effect));
    }
    let list = SPEC.child("podCIDRs");
    for (i, cidr) in items(&node["spec"]["podCIDRs"]).iter().map(text).enumerate() {
        check::faults(names::cidr(cidr), cidr, &list.index(i), errors);
    }
}

pub(super) static ENDPOINTS: Rules = Rules {
    create_on_update: true,
    default: |object| {
        let Some(object) = object.as_object_mut() else { return };
        for subset in items_mut(object, "subsets").iter_mut().filter_map(Value::as_object_mut) {
            for port in items_mut(subset, "ports").iter_mut().filter_map(Value::as_object_mut) {
                set_default(port, "protocol", "TCP");
            }
        }
    },
    validate: |object, errors| {
        let list = FieldPath::new("subsets");
        for (i, subset) in items(&object["subsets"]).iter().enumerate() {
            let path = list.index(i);
            if items(&subset["addresses"]).is_empty() && items(&subset["notReadyAddresses"]).is_empty() {
                errors.push(FieldError::required(&path, "must specify `addresses` or `notReadyAddresses`"));
            }
            for kind in ["addresses", "notReadyAddresses"] {
                let list = path.child(kind);
                for (i, address) in items(&subset[kind]).iter().enumerate() {
                    let (path, ip) = (list.index(i), text(&address["ip"]));
                    check::faults(names::ip(ip), ip, &path.child("ip"), errors);
                }
            }
            let list = path.child("ports");
            for (i, port) in items(&subset["ports"]).iter().enumerate() {
                let path = list.index(i);
                if is_empty(&port["name"]) && items(&subset["ports"]).len() > 1 {
                    errors.push(FieldError::required(&path.child("name"), ""));
                }
                check::optional_name(&port["name"], names::label, &path.child("name"), errors);
                check::port(&port["port"], &path.child("port"), errors);
                check::protocol(&port["protocol"], &path.child("protocol"), errors);
            }
        }
    },
    ..Rules::DATA
};

pub(super) static RESOURCE_QUOTA: Rules = Rules {
    generation: Generation::Never,
    default: |object| {
        if let Some(spec) = defaults::spec(object) {
            defaults::resource_list(spec, "hard");
        }
        defaults::status_resource_lists(object, &["hard", "used"]);
    },
    validate: |object, errors| {
        check::resource_list(&object["spec"]["hard"], &SPEC.child("hard"), errors);
        super::quota::validate(&object["spec"], errors);
    },
    validate_update: |new, old, part, errors| {
        if part == Part::Main {
            check::immutable(&new["spec"]["scopes"], &old["spec"]["scopes"], &SPEC.child("scopes"), errors);
        }
    },
    ..Rules::WITH_STATUS
};

const AMOUNTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

pub(super) static LIMIT_RANGE: Rules = Rules {
    create_on_update: true,
    default: |object| {
        let Some(spec) = defaults::spec(object) else { return };
        for limit in items_mut(spec, "limits").iter_mut().filter_map(Value::as_object_mut) {
            for key in AMOUNTS {
                defaults::resource_list(limit, key);
            }
            if get(limit, "type") == "Container" {
                fill(limit, "default", "max");
                fill(limit, "defaultRequest", "default");
                fill(limit, "defaultRequest", "min");
            }
        }
    },
    validate: |object, errors| {
        let list = SPEC.child("limits");
        let mut kinds: Vec<&str> = Vec::new();
        for (i, limit) in items(&object["spec"]["limits"]).iter().enumerate() {
            let path = list.index(i);
            check::required(&limit["type"], &path.child("type"), errors);
            if kinds.contains(&text(&limit["type"])) {
                errors.push(FieldError::duplicate(&path.child("type"), text(&limit["type"])));
            }
            kinds.push(text(&limit["type"]));
            for key in AMOUNTS {
                check::resource_list(&limit[key], &path.child(key), errors);
            }
            for key in ["default", "defaultRequest"] {
                if limit["type"] == "Pod" && is_set(&limit[key]) {
                    errors.push(FieldError::forbidden(&path.child(key), "may not be specified when `type` is 'Pod'"));
                }
            }
            let bounds = ["min", "max"].map(|key| is_set(&limit[key]["storage"]));
            if limit["type"] == "PersistentVolumeClaim" && bounds == [false, false] {
                let why = "either minimum or maximum storage value is required, but neither was provided";
                errors.push(FieldError::required(&path.child("limits"), why));
            }
            ordered(limit, &path, errors);
            ratios(limit, &path, errors);
        }
    },
    ..Rules::DATA
};

/// Copies amounts from one list into another where that has none.
fn fill(limit: &mut crate::value::Object, into: &str, from: &str) {
    let source = get(limit, from).clone();
    if let Some(list) = source.as_object().filter(|list| !list.is_empty())
        && let Some(target) = object_at(limit, into)
    {
        for (resource, amount) in list {
            set_default(target, resource, amount.clone());
        }
    }
}

/// min <= defaultRequest <= default <= max, for each resource that has both of a pair.
fn ordered(limit: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let pairs = [
        ("min", "min value", "max", "max value"),
        ("min", "min value", "defaultRequest", "default request value"),
        ("defaultRequest", "default request value", "max", "max value"),
        ("defaultRequest", "default request value", "default", "default limit value"),
        ("default", "default value", "max", "max value"),
    ];
    for (low, low_name, high, high_name) in pairs {
        for (resource, amount) in entries(&limit[low]) {
            let Some(bound) = limit[high].get(resource) else { continue };
            let (amount, bound) = (Quantity::or_zero(amount), Quantity::or_zero(bound));
            if amount > bound {
                let why = format!("{low_name} {amount} is greater than {high_name} {bound}");
                let list = path.child(if low == "min" && high != "max" { high } else { low });
                errors.push(FieldError::invalid(&list.key(resource), amount.to_string(), why));
            }
        }
    }
}

/// A limit is never below its request, and the bounds allow the ratio.
fn ratios(limit: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    for (resource, amount) in entries(&limit["maxLimitRequestRatio"]) {
        let ratio = Quantity::or_zero(amount);
        let list = path.child("maxLimitRequestRatio");
        let path = list.key(resource);
        if ratio.milli_value() < 1000 {
            let why = format!("ratio {ratio} is less than 1");
            errors.push(FieldError::invalid(&path, ratio.to_string(), why));
        }
        let bound = |key: &str| limit[key].get(resource).map(|amount| Quantity::or_zero(amount).milli_value() as f64);
        if let (Some(low), Some(high)) = (bound("min"), bound("max"))
            && low > 0.0
            && ratio.milli_value() as f64 / 1000.0 > high / low
        {
            let why = format!("ratio {ratio} is greater than max/min = {:.6}", high / low);
            errors.push(FieldError::invalid(&path, ratio.to_string(), why));
        }
    }
}
