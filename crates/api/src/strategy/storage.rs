//! Volumes, claims and the kinds of `storage.k8s.io`.

use serde_json::{Value, json};

use super::{
    Part, check, defaults, pod,
    rules::{Errors, Generation, Rules},
};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    quantity::Quantity,
    value::{entries, get, is_empty, is_set, items, keep, same, set_default, text},
    volume::is_source,
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");
const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

pub(super) static PERSISTENT_VOLUME_CLAIM: Rules = Rules {
    generation: Generation::Never,
    initial_status: Some(|| json!({"phase": "Pending"})),
    default: |object| {
        if let Some(object) = object.as_object_mut() {
            pod::claim_template_default(object);
        }
        defaults::status_resource_lists(object, &["capacity", "allocatedResources"]);
    },
    validate: |object, errors| validate_claim_spec(&object["spec"], &SPEC, errors),
    validate_update: |new, old, part, errors| {
        if part == Part::Main {
            claim_update(new, old, errors);
        }
    },
    ..Rules::WITH_STATUS
};

/// The spec of a claim, or of a template for claims.
pub(super) fn validate_claim_spec(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    access_modes(&spec["accessModes"], path, errors);
    check::label_selector(&spec["selector"], &path.child("selector"), errors);
    let resources = path.child("resources");
    match spec["resources"]["requests"].get("storage") {
        None => errors.push(FieldError::required(&resources.key("storage"), "")),
        Some(amount) => {
            let requests = resources.child("requests");
            let path = requests.key("storage");
            if check::quantity(amount, &path, errors).is_some_and(|amount| amount <= Quantity::ZERO) {
                errors.push(FieldError::invalid(&path, amount.clone(), "must be greater than zero"));
            }
        }
    }
    let class = path.child("storageClassName");
    check::optional_name(&spec["storageClassName"], names::subdomain, &class, errors);
    check::optional_one_of(&spec["volumeMode"], &VOLUME_MODES, &path.child("volumeMode"), errors);
}

fn access_modes(modes: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let path = path.child("accessModes");
    if items(modes).is_empty() {
        errors.push(FieldError::required(&path, "at least 1 access mode is required"));
    }
    for mode in items(modes) {
        check::one_of(mode, &ACCESS_MODES, &path, errors);
    }
    if items(modes).iter().any(|mode| mode == "ReadWriteOncePod") && items(modes).len() > 1 {
        let why = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(&path, why));
    }
}

fn claim_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (spec, before) = (&new["spec"], &old["spec"]);
    let mut masked = spec.clone();
    // Binding fills in the volume; expansion raises the request; the rest was decided at creation.
    if is_empty(&before["volumeName"]) {
        keep(&mut masked, before, "volumeName");
    }
    if is_empty(&before["storageClassName"]) {
        keep(&mut masked, before, "storageClassName");
    }
    let bound = old["status"]["phase"] == "Bound";
    if bound {
        keep(&mut masked, before, "volumeAttributesClassName");
        keep(&mut masked, before, "resources");
    }
    if !same(&masked, before) {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
                   claims";
        errors.push(FieldError::forbidden(&SPEC, why));
    } else if bound {
        let size = |spec: &Value| Quantity::or_zero(&spec["resources"]["requests"]["storage"]);
        let capacity = Quantity::or_zero(&old["status"]["capacity"]["storage"]);
        if size(spec) < size(before) && size(spec) < capacity {
            let resources = SPEC.child("resources");
            let requests = resources.child("requests");
            let why = "field can not be less than status.capacity";
            errors.push(FieldError::forbidden(&requests.child("storage"), why));
        }
    }
}

pub(super) static PERSISTENT_VOLUME: Rules = Rules {
    generation: Generation::Never,
    initial_status: Some(|| json!({"phase": "Pending"})),
    default: |object| {
        let Some(spec) = defaults::spec(object) else { return };
        set_default(spec, "persistentVolumeReclaimPolicy", "Retain");
        set_default(spec, "volumeMode", "Filesystem");
        defaults::resource_list(spec, "capacity");
        if let Some(path) = spec.get_mut("hostPath").and_then(Value::as_object_mut)
            && get(path, "type").is_null()
        {
            path.insert("type".into(), "".into());
        }
    },
    validate: volume,
    validate_update: |new, old, part, errors| {
        if part == Part::Main && !same(&source(&new["spec"]), &source(&old["spec"])) {
            let why = "spec.persistentvolumesource is immutable after creation";
            errors.push(FieldError::forbidden(&SPEC.child("persistentvolumesource"), why));
        }
        if part == Part::Main {
            check::immutable(&new["spec"]["volumeMode"], &old["spec"]["volumeMode"], &SPEC.child("volumeMode"), errors);
            let (affinity, before) = (&new["spec"]["nodeAffinity"], &old["spec"]["nodeAffinity"]);
            if is_set(before) && !same(affinity, before) {
                let why = "field is immutable, except for updating from beta label to GA";
                errors.push(FieldError::invalid(&SPEC.child("nodeAffinity"), affinity.clone(), why));
            }
        }
    },
    ..Rules::WITH_STATUS
};

/// The spec without everything that is not the source of the volume.
fn source(spec: &Value) -> Value {
    let mut source = spec.clone();
    if let Some(source) = source.as_object_mut() {
        source.retain(|key, value| is_source(key) && is_set(value));
    }
    source
}

fn volume(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    access_modes(&spec["accessModes"], &SPEC, errors);
    let capacity = SPEC.child("capacity");
    check::required(&spec["capacity"], &capacity, errors);
    if entries(&spec["capacity"]).count() != 1 || spec["capacity"].get("storage").is_none() {
        errors.push(FieldError::not_supported(&capacity, spec["capacity"].clone(), &["storage"]));
    }
    for (resource, amount) in entries(&spec["capacity"]) {
        let path = capacity.key(resource);
        if check::quantity(amount, &path, errors).is_some_and(|amount| amount <= Quantity::ZERO) {
            errors.push(FieldError::invalid(&path, amount.clone(), "must be greater than zero"));
        }
    }
    let policies = ["Delete", "Recycle", "Retain"];
    let path = SPEC.child("persistentVolumeReclaimPolicy");
    check::optional_one_of(&spec["persistentVolumeReclaimPolicy"], &policies, &path, errors);
    check::optional_one_of(&spec["volumeMode"], &VOLUME_MODES, &SPEC.child("volumeMode"), errors);
    check::optional_name(&spec["storageClassName"], names::subdomain, &SPEC.child("storageClassName"), errors);
    let sources = source(spec);
    match entries(&sources).count() {
        0 => errors.push(FieldError::required(&SPEC, "must specify a volume type")),
        1 => {}
        _ => {
            let second = entries(&sources).nth(1).map_or("", |(kind, _)| kind);
            errors.push(FieldError::forbidden(&SPEC.child(second), "may not specify more than 1 volume type"));
        }
    }
    if is_set(&spec["hostPath"]) {
        pod::host_path(&spec["hostPath"], &SPEC.child("hostPath"), errors);
    }
    if is_set(&spec["local"]) {
        let local = SPEC.child("local");
        check::required(&spec["local"]["path"], &local.child("path"), errors);
        if !is_set(&spec["nodeAffinity"]["required"]) {
            errors.push(FieldError::required(&SPEC.child("nodeAffinity"), "Local volume requires node affinity"));
        }
    }
    if is_set(&spec["csi"]) {
        super::csi::volume_source(&spec["csi"], &SPEC.child("csi"), errors);
    }
    if is_set(&spec["nodeAffinity"]["required"]) {
        let affinity = SPEC.child("nodeAffinity");
        check::node_selector(&spec["nodeAffinity"]["required"], &affinity.child("required"), errors);
    }
}

pub(super) static STORAGE_CLASS: Rules = Rules {
    default: |object| {
        let Some(object) = object.as_object_mut() else { return };
        set_default(object, "reclaimPolicy", "Delete");
        set_default(object, "volumeBindingMode", "Immediate");
    },
    validate: |object, errors| {
        let path = FieldPath::new("provisioner");
        let provisioner = text(&object["provisioner"]);
        if check::required(&object["provisioner"], &path, errors) {
            check::faults(names::qualified_name(&provisioner.to_lowercase()), provisioner, &path, errors);
        }
        let policies = ["Delete", "Retain"];
        check::optional_one_of(&object["reclaimPolicy"], &policies, &FieldPath::new("reclaimPolicy"), errors);
        let modes = ["Immediate", "WaitForFirstConsumer"];
        check::one_of(&object["volumeBindingMode"], &modes, &FieldPath::new("volumeBindingMode"), errors);
    },
    validate_update: |new, old, _, errors| {
        for key in ["parameters", "provisioner"] {
            if !same(&new[key], &old[key]) {
                errors.push(FieldError::forbidden(&FieldPath::new(key), format!("updates to {key} are forbidden.")));
            }
        }
        for key in ["reclaimPolicy", "volumeBindingMode"] {
            check::immutable(&new[key], &old[key], &FieldPath::new(key), errors);
        }
    },
    ..Rules::DATA
};

pub(super) static VOLUME_ATTRIBUTES_CLASS: Rules = Rules {
    validate: |object, errors| {
        check::required(&object["driverName"], &FieldPath::new("driverName"), errors);
        check::required(&object["parameters"], &FieldPath::new("parameters"), errors);
    },
    validate_update: |new, old, _, errors| {
        for key in ["driverName", "parameters"] {
            if !same(&new[key], &old[key]) {
                errors.push(FieldError::forbidden(&FieldPath::new(key), format!("updates to {key} are forbidden.")));
            }
        }
    },
    ..Rules::DATA
};
