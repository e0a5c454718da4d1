use serde_json::Value;

use super::{
    AGE, Column, NAME, Printer,
    format::{self, UNSET},
};
use crate::value::{is_set, items, text, truth};
use crate::volume::class_in;

const fn boolean(name: &'static str, description: &'static str) -> Column {
    Column { kind: "boolean", ..Column::text(name, description) }
}

/// The phase, or that the object is going away.
fn phase(object: &Value) -> Value {
    match is_set(&object["metadata"]["deletionTimestamp"]) {
        true => "Terminating".into(),
        false => format::string(&object["status"]["phase"]),
    }
}

pub(super) static PERSISTENT_VOLUME: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Capacity", "How much it holds."),
        Column::text("Access Modes", "How it may be mounted."),
        Column::text("Reclaim Policy", "What becomes of it after its claim."),
        Column::text("Status", "Whether it is bound."),
        Column::text("Claim", "The claim that it is bound to."),
        Column::text("StorageClass", "Its storage class."),
        Column::text("VolumeAttributesClass", "Its volume attributes class."),
        Column::text("Reason", "Why it is in this state."),
        AGE,
        Column::text("VolumeMode", "Filesystem or Block.").wide(),
    ],
    cells: |object, now| {
        let spec = &object["spec"];
        let claim = &spec["claimRef"];
        let claim = match is_set(claim) {
            true => format!("{}/{}", text(&claim["namespace"]), text(&claim["name"])),
            false => String::new(),
        };
        vec![
            format::name(object),
            format::scalar(&spec["capacity"]["storage"], "").into(),
            format::access_modes(&spec["accessModes"]).into(),
            format::string(&spec["persistentVolumeReclaimPolicy"]),
            phase(object),
            claim.into(),
            format::string(&spec["storageClassName"]),
            format::or(&spec["volumeAttributesClassName"], UNSET).into(),
            format::string(&object["status"]["reason"]),
            format::age(object, now),
            format::or(&spec["volumeMode"], UNSET).into(),
        ]
    },
};

pub(super) static PERSISTENT_VOLUME_CLAIM: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Status", "Whether it is bound."),
        Column::text("Volume", "The volume that it is bound to."),
        Column::text("Capacity", "How much that holds."),
        Column::text("Access Modes", "How it may be mounted."),
        Column::text("StorageClass", "Its storage class."),
        Column::text("VolumeAttributesClass", "Its volume attributes class."),
        AGE,
        Column::text("VolumeMode", "Filesystem or Block.").wide(),
    ],
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let bound = !text(&spec["volumeName"]).is_empty();
        let (modes, capacity) = match bound {
            true => (format::access_modes(&status["accessModes"]), format::scalar(&status["capacity"]["storage"], "0")),
            false => Default::default(),
        };
        vec![
            format::name(object),
            phase(object),
            format::string(&spec["volumeName"]),
            capacity.into(),
            modes.into(),
            class_in(object).into(),
            format::or(&spec["volumeAttributesClassName"], UNSET).into(),
            format::age(object, now),
            format::or(&spec["volumeMode"], UNSET).into(),
        ]
    },
};

/// The name, marked where the class is the one that objects without a class get.
fn marked_default(object: &Value, annotations: &[&str]) -> Value {
    let name = text(&object["metadata"]["name"]);
    let is_default = annotations.iter().any(|key| object["metadata"]["annotations"][*key] == "true");
    if is_default { format!("{name} (default)").into() } else { name.into() }
}

pub(super) static STORAGE_CLASS: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Provisioner", "Who makes its volumes."),
        Column::text("ReclaimPolicy", "What becomes of a volume after its claim."),
        Column::text("VolumeBindingMode", "When a volume is made."),
        boolean("AllowVolumeExpansion", "Whether claims may grow."),
        AGE,
    ],
    cells: |object, now| {
        let annotations =
            ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
        vec![
            marked_default(object, &annotations),
            format::string(&object["provisioner"]),
            format::or(&object["reclaimPolicy"], "Delete").into(),
            format::or(&object["volumeBindingMode"], "Immediate").into(),
            truth(&object["allowVolumeExpansion"]).into(),
            format::age(object, now),
        ]
    },
};

pub(super) static VOLUME_ATTRIBUTES_CLASS: Printer = Printer {
    columns: &[NAME, Column::text("DriverName", "The driver that it is for."), AGE],
    cells: |object, now| {
        let name = marked_default(object, &["volumeattributesclass.kubernetes.io/is-default-class"]);
        vec![name, format::string(&object["driverName"]), format::age(object, now)]
    },
};

pub(super) static VOLUME_ATTACHMENT: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Attacher", "The driver that attaches."),
        Column::text("PV", "The volume."),
        Column::text("Node", "The node."),
        boolean("Attached", "Whether it is done."),
        AGE,
    ],
    cells: |object, now| {
        let spec = &object["spec"];
        vec![
            format::name(object),
            format::string(&spec["attacher"]),
            format::string(&spec["source"]["persistentVolumeName"]),
            format::string(&spec["nodeName"]),
            truth(&object["status"]["attached"]).into(),
            format::age(object, now),
        ]
    },
};

pub(super) static CSI_NODE: Printer = Printer {
    columns: &[NAME, Column::number("Drivers", "How many drivers run there."), AGE],
    cells: |object, now| {
        vec![format::name(object), items(&object["spec"]["drivers"]).len().into(), format::age(object, now)]
    },
};

pub(super) static CSI_DRIVER: Printer = Printer {
    columns: &[
        NAME,
        boolean("AttachRequired", "Whether volumes are attached before they are mounted."),
        boolean("PodInfoOnMount", "Whether a mount is told about its pod."),
        boolean("StorageCapacity", "Whether scheduling looks at capacity."),
        Column::text("TokenRequests", "Audiences of the tokens that a mount gets."),
        boolean("RequiresRepublish", "Whether mounts are repeated."),
        Column::text("Modes", "The kinds of volumes that it serves."),
        AGE,
    ],
    cells: |object, now| {
        let spec = &object["spec"];
        let audiences: Vec<String> =
            items(&spec["tokenRequests"]).iter().map(|request| text(&request["audience"]).to_owned()).collect();
        let modes: Vec<String> =
            items(&spec["volumeLifecycleModes"]).iter().map(|mode| text(mode).to_owned()).collect();
        vec![
            format::name(object),
            (spec["attachRequired"] != false).into(),
            truth(&spec["podInfoOnMount"]).into(),
            truth(&spec["storageCapacity"]).into(),
            if audiences.is_empty() { UNSET.to_owned() } else { audiences.join(",") }.into(),
            truth(&spec["requiresRepublish"]).into(),
            format::join_or_none(&modes).into(),
            format::age(object, now),
        ]
    },
};

pub(super) static CSI_STORAGE_CAPACITY: Printer = Printer {
    columns: &[
        NAME,
        Column::text("StorageClassName", "The storage class."),
        Column::text("Capacity", "How much can be had."),
    ],
    cells: |object, _| {
        let capacity = format::scalar(&object["capacity"], UNSET);
        vec![format::name(object), format::string(&object["storageClassName"]), capacity.into()]
    },
};

pub(super) static NAME_AND_AGE: Printer =
    Printer { columns: &[NAME, AGE], cells: |object, now| vec![format::name(object), format::age(object, now)] };

pub(super) static RESOURCE_CLAIM: Printer = Printer {
    columns: &[NAME, Column::text("State", "Whether it is allocated and reserved."), AGE],
    cells: |object, now| {
        let status = &object["status"];
        let mut states = Vec::new();
        if is_set(&object["metadata"]["deletionTimestamp"]) {
            states.push("deleted");
        }
        match is_set(&status["allocation"]) {
            false if !is_set(&object["metadata"]["deletionTimestamp"]) => states.push("pending"),
            false => {}
            true => {
                states.push("allocated");
                if !items(&status["reservedFor"]).is_empty() {
                    states.push("reserved");
                }
            }
        }
        vec![format::name(object), states.join(",").into(), format::age(object, now)]
    },
};

pub(super) static RESOURCE_SLICE: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Node", "The node that has the devices."),
        Column::text("Driver", "The driver that serves them."),
        Column::text("Pool", "The pool that they belong to."),
        AGE,
    ],
    cells: |object, now| {
        let spec = &object["spec"];
        vec![
            format::name(object),
            format::or(&spec["nodeName"], UNSET).into(),
            format::string(&spec["driver"]),
            format::string(&spec["pool"]["name"]),
            format::age(object, now),
        ]
    },
};
