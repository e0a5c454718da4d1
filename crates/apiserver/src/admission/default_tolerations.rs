use async_trait::async_trait;
use knarr_api::status::ApiError;
use serde_json::{Value, json};

use super::is_main;
use crate::contract::{Admission, AdmissionRequest, Operation};
use crate::json::{items, list_mut, text};

const SECONDS: i64 = 300;

/// A pod stays five minutes on a node that stopped answering, unless it says otherwise.
pub struct DefaultTolerationSeconds;

#[async_trait]
impl Admission for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if !is_main(request, "", "pods") || !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let spec = &mut request.object["spec"];
        if !spec.is_object() {
            return Ok(());
        }
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            if !items(&spec["tolerations"]).iter().any(|toleration| covers(toleration, key)) {
                list_mut(spec, "tolerations").push(json!({
                    "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
                }));
            }
        }
        Ok(())
    }
}

/// No key stands for every key, no effect for every effect.
fn covers(toleration: &Value, key: &str) -> bool {
    let (own, effect) = (text(&toleration["key"]), text(&toleration["effect"]));
    (own == key || own.is_empty()) && (effect == "NoExecute" || effect.is_empty())
}
