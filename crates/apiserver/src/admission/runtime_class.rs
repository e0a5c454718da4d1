use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::status::ApiError;
use serde_json::{Value, json};

use super::{denied, is_pod_creation};
use crate::builtin;
use crate::contract::{Admission, AdmissionRequest, Lookup};
use crate::json::{items, list_mut, text};

/// Adds to a pod what its RuntimeClass asks for: overhead, node selector and tolerations.
pub struct RuntimeClass {
    lookup: Arc<dyn Lookup>,
}

impl RuntimeClass {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
    }

    async fn class_of(&self, request: &AdmissionRequest<'_>) -> Result<Option<Value>, ApiError> {
        let wanted = text(&request.object["spec"]["runtimeClassName"]);
        if wanted.is_empty() {
            return Ok(None);
        }
        let resource = builtin::runtime_classes();
        let found = match self.lookup.get(resource, "", wanted) {
            Some(found) => Some(found),
            None => self.lookup.get_fresh(resource, "", wanted).await?,
        };
        match found {
            Some(found) => Ok(Some(found.value())),
            None => Err(denied(request, format!("pod rejected: RuntimeClass \"{wanted}\" not found"))),
        }
    }
}

#[async_trait]
impl Admission for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if !is_pod_creation(request) {
            return Ok(());
        }
        let Some(class) = self.class_of(request).await? else { return Ok(()) };
        let overhead = &class["overhead"]["podFixed"];
        if overhead.is_object() {
            let given = &request.object["spec"]["overhead"];
            if given.is_object() && given != overhead {
                let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
                return Err(denied(request, why));
            }
            request.object["spec"]["overhead"] = overhead.clone();
        }
        if let Some(selector) = class["scheduling"]["nodeSelector"].as_object() {
            for (key, value) in selector {
                let given = &request.object["spec"]["nodeSelector"][key];
                if !given.is_null() && given != value {
                    let why = format!(
                        "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                        text(value),
                        text(given)
                    );
                    return Err(denied(request, why));
                }
            }
            let target = &mut request.object["spec"]["nodeSelector"];
            if target.is_null() {
                *target = json!({});
            }
            for (key, value) in selector {
                target[key] = value.clone();
            }
        }
        for toleration in items(&class["scheduling"]["tolerations"]) {
            let spec = &mut request.object["spec"];
            if !items(&spec["tolerations"]).contains(toleration) {
                list_mut(spec, "tolerations").push(toleration.clone());
            }
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        if !is_pod_creation(request) || request.object["spec"]["overhead"].is_null() {
            return Ok(());
        }
        match self.class_of(request).await? {
            Some(class) if class["overhead"]["podFixed"] == request.object["spec"]["overhead"] => Ok(()),
            _ => Err(denied(
                request,
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            )),
        }
    }
}
