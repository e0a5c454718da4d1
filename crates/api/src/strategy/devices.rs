//! Claims, slices and classes of devices.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/>)

use serde_json::Value;

use super::{
    Part, check, defaults,
    rules::{Errors, Generation, Rules},
};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    value::{get, is_set, items, items_mut, object_mut, set_default},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");

pub(super) static RESOURCE_CLAIM: Rules = Rules {
    generation: Generation::Never,
    default: |object| {
        if let Some(spec) = defaults::spec(object) {
            default_claim(spec);
        }
    },
    validate: |object, errors| device_claim(&object["spec"], &SPEC, errors),
    validate_update: |new, old, part, errors| {
        if part == Part::Main {
            check::immutable(&new["spec"], &old["spec"], &SPEC, errors);
        }
    },
    ..Rules::WITH_STATUS
};

pub(super) static RESOURCE_CLAIM_TEMPLATE: Rules = Rules {
    default: |object| {
        if let Some(template) = defaults::spec(object)
            && let Some(spec) = crate::value::object_at(template, "spec")
        {
            default_claim(spec);
        }
    },
    validate: |object, errors| device_claim(&object["spec"]["spec"], &SPEC.child("spec"), errors),
    validate_update: |new, old, _, errors| check::immutable(&new["spec"], &old["spec"], &SPEC, errors),
    ..Rules::DATA
};

fn default_claim(spec: &mut crate::value::Object) {
    let Some(devices) = spec.get_mut("devices").and_then(Value::as_object_mut) else { return };
    let one = |request: &mut crate::value::Object| {
        set_default(request, "allocationMode", "ExactCount");
        if get(request, "allocationMode") == "ExactCount" && get(request, "count").as_i64().unwrap_or(0) == 0 {
            request.insert("count".into(), 1.into());
        }
    };
    for request in items_mut(devices, "requests") {
        if let Some(exactly) = object_mut(request, "exactly") {
            one(exactly);
        }
        if let Some(request) = request.as_object_mut() {
            items_mut(request, "firstAvailable").iter_mut().filter_map(Value::as_object_mut).for_each(one);
        }
    }
}

fn device_claim(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let path = path.child("devices");
    let list = path.child("requests");
    for (i, request) in items(&spec["devices"]["requests"]).iter().enumerate() {
        let path = list.index(i);
        check::name(&request["name"], names::label, &path.child("name"), errors);
        match (is_set(&request["exactly"]), !items(&request["firstAvailable"]).is_empty()) {
            (false, false) => {
                errors.push(FieldError::required(&path, "exactly one of `exactly` or `firstAvailable` is required"));
            }
            (true, true) => {
                let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
                errors.push(FieldError::invalid(&path, Value::Null, why));
            }
            (true, false) => {
                let path = path.child("exactly");
                let class = path.child("deviceClassName");
                check::name(&request["exactly"]["deviceClassName"], names::subdomain, &class, errors);
            }
            _ => {}
        }
    }
}

pub(super) static RESOURCE_SLICE: Rules = Rules {
    generation: Generation::Content,
    validate: |object, errors| {
        check::required(&object["spec"]["driver"], &SPEC.child("driver"), errors);
        let pool = SPEC.child("pool");
        check::required(&object["spec"]["pool"]["name"], &pool.child("name"), errors);
    },
    validate_update: |new, old, _, errors| {
        for key in ["driver", "nodeName"] {
            check::immutable(&new["spec"][key], &old["spec"][key], &SPEC.child(key), errors);
        }
    },
    fields: &["spec.nodeName", "spec.driver"],
    ..Rules::DATA
};

pub(super) static DEVICE_CLASS: Rules = Rules { generation: Generation::Spec, ..Rules::DATA };
