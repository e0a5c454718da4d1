//! Pods, and the pod specs inside every template.
//! (<https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>)

mod affinity;
mod claims;
mod container;
mod defaults;
mod env;
mod ephemeral;
mod prepare;
mod probe;
mod projected;
mod qos;
mod resize;
mod resources;
mod security;
mod spec;
#[cfg(test)]
mod tests;
mod tolerations;
mod update;
mod volume;
mod windows;

use std::borrow::Cow;

use serde_json::{Value, json};

pub(super) use defaults::template as default_template;
pub use qos::class as qos_class;
pub(super) use spec::{Context, validate as validate_spec, warnings};
pub(super) use volume::{claim_template_default, host_path};

use super::rules::{Generation, Rules, by_path};
use crate::{
    field::FieldPath,
    value::{int, text},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");

pub(super) static POD: Rules = Rules {
    generation: Generation::Spec,
    initial_status: Some(|| json!({"phase": "Pending"})),
    // Binding a pod also says that it is scheduled.
    subresource_writes_status: &["binding"],
    default: defaults::pod,
    create: prepare::create,
    update: prepare::update,
    validate: |pod, errors| validate_spec(&pod["spec"], &SPEC, Context::Pod, errors),
    validate_update: update::validate,
    warnings: |pod| warnings(&pod["spec"], "spec"),
    fields: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ],
    field,
    grace,
    ..Rules::WITH_STATUS
};

pub(super) static POD_TEMPLATE: Rules = Rules {
    generation: Generation::Content,
    default: |object| {
        if let Some(object) = object.as_object_mut() {
            default_template(object);
        }
    },
    validate: |object, errors| validate_template(&object["template"], &FieldPath::new("template"), errors),
    warnings: |object| warnings(&object["template"]["spec"], "template.spec"),
    ..Rules::DATA
};

/// The template of a workload: labels and annotations, and the spec.
pub(super) fn validate_template(template: &Value, path: &FieldPath<'_>, errors: &mut super::rules::Errors) {
    crate::meta::validate_template(&template["metadata"], &path.child("metadata"), errors);
    validate_spec(&template["spec"], &path.child("spec"), Context::Template, errors);
}

fn field<'a>(pod: &'a Value, field: &str) -> Cow<'a, str> {
    match field {
        "spec.hostNetwork" => Cow::Borrowed(if pod["spec"]["hostNetwork"] == true { "true" } else { "false" }),
        "status.podIPs" => {
            let ips: Vec<&str> =
                crate::value::items(&pod["status"]["podIPs"]).iter().map(|ip| text(&ip["ip"])).collect();
            Cow::Owned(ips.join(","))
        }
        _ => by_path(pod, field),
    }
}

/// What the client asked for, else the pod's own time, and no time where nothing runs.
fn grace(pod: &Value, requested: Option<i64>) -> Option<i64> {
    if text(&pod["spec"]["nodeName"]).is_empty() || matches!(text(&pod["status"]["phase"]), "Failed" | "Succeeded") {
        return Some(0);
    }
    let seconds = requested.unwrap_or_else(|| int(&pod["spec"]["terminationGracePeriodSeconds"]));
    Some(if seconds < 0 { 1 } else { seconds })
}
