use async_trait::async_trait;
use knarr_api::status::ApiError;
use serde_json::json;

use super::is_main;
use crate::contract::{Admission, AdmissionRequest, Operation};
use crate::json::{items, list_mut};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// A new node takes no pods until it was seen ready.
pub struct TaintNodesByCondition;

#[async_trait]
impl Admission for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if request.operation != Operation::Create || !is_main(request, "", "nodes") {
            return Ok(());
        }
        let spec = &mut request.object["spec"];
        if spec.is_null() {
            *spec = json!({});
        }
        let is_there = |taint: &serde_json::Value| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule";
        if spec.is_object() && !items(&spec["taints"]).iter().any(is_there) {
            list_mut(spec, "taints").push(json!({ "key": NOT_READY, "effect": "NoSchedule" }));
        }
        Ok(())
    }
}
