//! The kinds of `storage.k8s.io` by which CSI drivers, their controllers and nodes agree.

use serde_json::{Value, json};

use super::{
    Part, check, defaults,
    rules::{Errors, Generation, Rules},
};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    quantity::Quantity,
    value::{get, int, is_set, items, keep, same, set_default, text},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");
const DRIVER_NAME_BYTES: usize = 63;
const NODE_ID_BYTES: usize = 192;
const SHORTEST_TOKEN_SECONDS: i64 = 600;
const TOO_MANY_TOKEN_SECONDS: i64 = (1 << 32) + 1;

/// A name of the Internet's kind, in any case.
pub(super) fn driver_name(name: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if !check::required(name, path, errors) {
        return;
    }
    let name = text(name);
    if name.len() > DRIVER_NAME_BYTES {
        errors.push(FieldError::too_long(path, DRIVER_NAME_BYTES));
    }
    check::faults(names::subdomain(&name.to_lowercase()), name, path, errors);
}

/// What a PersistentVolume says of a driver's volume.
pub(super) fn volume_source(source: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    driver_name(&source["driver"], &path.child("driver"), errors);
    check::required(&source["volumeHandle"], &path.child("volumeHandle"), errors);
    let keys =
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"];
    for key in keys.into_iter().filter(|key| is_set(&source[*key])) {
        let path = path.child(key);
        check::required(&source[key]["name"], &path.child("name"), errors);
        check::name(&source[key]["namespace"], names::label, &path.child("namespace"), errors);
    }
}

fn token_requests(requests: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let mut taken: Vec<&str> = Vec::new();
    for (i, request) in items(requests).iter().enumerate() {
        let path = path.index(i);
        let audience = text(&request["audience"]);
        if taken.contains(&audience) {
            errors.push(FieldError::duplicate(&path.child("audience"), audience));
        }
        taken.push(audience);
        let seconds = &request["expirationSeconds"];
        let why = match int(seconds) {
            _ if !is_set(seconds) => continue,
            ..SHORTEST_TOKEN_SECONDS => "may not specify a duration less than 10 minutes",
            TOO_MANY_TOKEN_SECONDS.. => "may not specify a duration larger than 2^32 seconds",
            _ => continue,
        };
        errors.push(FieldError::invalid(&path.child("expirationSeconds"), seconds.clone(), why));
    }
}

fn topology_keys(keys: &[Value], path: &FieldPath<'_>, errors: &mut Errors) {
    for (i, key) in keys.iter().enumerate() {
        if keys[..i].contains(key) {
            errors.push(FieldError::duplicate(path, text(key)));
        }
        check::faults(names::qualified_name(text(key)), text(key), path, errors);
    }
}

pub(super) static VOLUME_ATTACHMENT: Rules = Rules {
    generation: Generation::Never,
    initial_status: Some(|| json!({"attached": false})),
    validate: |object, errors| {
        let spec = &object["spec"];
        check::required(&spec["attacher"], &SPEC.child("attacher"), errors);
        check::required(&spec["nodeName"], &SPEC.child("nodeName"), errors);
        let source = SPEC.child("source");
        let (name, inline) = (&spec["source"]["persistentVolumeName"], &spec["source"]["inlineVolumeSpec"]);
        match (is_set(name), is_set(inline)) {
            (false, false) => {
                let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
                errors.push(FieldError::required(&source, why));
            }
            (true, true) => {
                let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
                errors.push(FieldError::forbidden(&source, why));
            }
            _ => {}
        }
    },
    validate_update: |new, old, part, errors| {
        if part == Part::Main {
            check::immutable(&new["spec"], &old["spec"], &SPEC, errors);
        }
    },
    unconditional_update: false,
    ..Rules::WITH_STATUS
};

pub(super) static CSI_DRIVER: Rules = Rules {
    generation: Generation::Never,
    default: |object| {
        let Some(spec) = defaults::spec(object) else { return };
        set_default(spec, "attachRequired", true);
        for key in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            set_default(spec, key, false);
        }
        set_default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if items(get(spec, "volumeLifecycleModes")).is_empty() {
            spec.insert("volumeLifecycleModes".into(), json!(["Persistent"]));
        }
    },
    validate: |object, errors| {
        driver_name(&object["metadata"]["name"], &FieldPath::new("metadata").child("name"), errors);
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        let path = SPEC.child("fsGroupPolicy");
        check::optional_one_of(&object["spec"]["fsGroupPolicy"], &policies, &path, errors);
        let path = SPEC.child("volumeLifecycleModes");
        for mode in items(&object["spec"]["volumeLifecycleModes"]) {
            check::one_of(mode, &["Ephemeral", "Persistent"], &path, errors);
        }
        token_requests(&object["spec"]["tokenRequests"], &SPEC.child("tokenRequests"), errors);
    },
    validate_update: |new, old, _, errors| {
        for (key, shown) in [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")] {
            check::immutable(&new["spec"][key], &old["spec"][key], &SPEC.child(shown), errors);
        }
    },
    unconditional_update: false,
    ..Rules::DATA
};

pub(super) static CSI_NODE: Rules = Rules {
    validate: |object, errors| {
        let list = SPEC.child("drivers");
        let mut taken: Vec<&str> = Vec::new();
        for (i, driver) in items(&object["spec"]["drivers"]).iter().enumerate() {
            let path = list.index(i);
            driver_name(&driver["name"], &path.child("name"), errors);
            let id = path.child("nodeID");
            if check::required(&driver["nodeID"], &id, errors) && text(&driver["nodeID"]).len() > NODE_ID_BYTES {
                let why = format!("must be {NODE_ID_BYTES} characters or less");
                errors.push(FieldError::invalid(&id, text(&driver["nodeID"]), why));
            }
            topology_keys(items(&driver["topologyKeys"]), &path.child("topologyKeys"), errors);
            check::not_negative(&driver["allocatable"]["count"], &path.child("allocatable").child("count"), errors);
            if taken.contains(&text(&driver["name"])) {
                errors.push(FieldError::duplicate(&path.child("name"), text(&driver["name"])));
            }
            taken.push(text(&driver["name"]));
        }
    },
    // What a driver says of a node holds until it is gone, but for how many volumes it can still take.
    validate_update: |new, old, _, errors| {
        let before = items(&old["spec"]["drivers"]);
        for driver in items(&new["spec"]["drivers"]) {
            let Some(known) = before.iter().find(|known| known["name"] == driver["name"]) else { continue };
            let mut kept = driver.clone();
            keep(&mut kept, known, "allocatable");
            if !same(&kept, known) {
                let path = FieldPath::new("CSINodeDriver");
                errors.push(FieldError::invalid(&path, driver.clone(), "field is immutable"));
            }
        }
    },
    unconditional_update: false,
    ..Rules::DATA
};

pub(super) static CSI_STORAGE_CAPACITY: Rules = Rules {
    default: |object| {
        for key in ["capacity", "maximumVolumeSize"] {
            if let Ok(amount) = Quantity::from_value(&object[key]) {
                object[key] = amount.to_string().into();
            }
        }
    },
    validate: |object, errors| {
        check::name(&object["storageClassName"], names::subdomain, &FieldPath::new("storageClassName"), errors);
    },
    validate_update: |new, old, _, errors| {
        for key in ["nodeTopology", "storageClassName"] {
            check::immutable(&new[key], &old[key], &FieldPath::new(key), errors);
        }
    },
    ..Rules::DATA
};
