//! What the server's own node carries. Pure.

use k8s_openapi::api::core::v1::{Node, Taint};
use knarr_client::meta;
use serde_json::{Value, json};

use crate::common::some_or_null;

/// The label's and the taint's name.
const ROLE: &str = "node-role.kubernetes.io/control-plane";
const EFFECT: &str = "NoSchedule";
/// Whose the taint is: ours to put and to take, or let go of for ever because an administrator took it.
const OWNER: &str = "knarr.dev/control-plane-taint";
const KEPT: &str = "kept";
const RELEASED: &str = "released";

/// What is to be written; `None` where all is as it should be.
pub fn patch(node: &Node, has_company: bool) -> Option<Value> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let is_role = |taint: &Taint| taint.key == ROLE && taint.effect == EFFECT;
    let is_tainted = taints.iter().any(is_role);
    let role = || Taint { key: ROLE.to_owned(), effect: EFFECT.to_owned(), time_added: None, value: None };
    let (owner, taints) = match meta::annotation(&node.metadata, OWNER) {
        // One that was there before is somebody else's.
        None if has_company && !is_tainted => (json!(KEPT), Some(taints.into_iter().chain([role()]).collect())),
        Some(KEPT) if !is_tainted => (json!(RELEASED), None),
        Some(KEPT) if !has_company => {
            (Value::Null, Some(taints.into_iter().filter(|taint| !is_role(taint)).collect::<Vec<_>>()))
        }
        _ if meta::label(&node.metadata, ROLE).is_some() => return None,
        owner => (json!(owner), None),
    };
    let mut patch = json!({"metadata": {
        "resourceVersion": node.metadata.resource_version,
        "labels": {ROLE: ""},
        "annotations": {OWNER: owner},
    }});
    if let Some(taints) = taints {
        patch["spec"] = json!({"taints": some_or_null(taints)});
    }
    Some(patch)
}
