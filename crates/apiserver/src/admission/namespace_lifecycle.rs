use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::status::{ApiError, Cause};

use super::denied;
use crate::builtin;
use crate::contract::{Admission, AdmissionRequest, Lookup, Operation, Stored};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Nothing is written to a namespace that does not exist, nothing new to one that is going away, and the
/// system's own namespaces stay.
pub struct NamespaceLifecycle {
    lookup: Arc<dyn Lookup>,
}

impl NamespaceLifecycle {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
    }

    async fn find(&self, name: &str) -> Result<Arc<Stored>, ApiError> {
        let namespaces = builtin::namespaces();
        if let Some(found) = self.lookup.get(namespaces, "", name) {
            return Ok(found);
        }
        // It may have been created a moment ago.
        let fresh = self.lookup.get_fresh(namespaces, "", name).await?;
        fresh.ok_or_else(|| ApiError::not_found("namespaces", name))
    }
}

#[async_trait]
impl Admission for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let is_namespace = request.resource.plural == "namespaces" && request.resource.group.is_empty();
        if is_namespace {
            return match request.operation {
                Operation::Delete if IMMORTAL.contains(&request.name) => {
                    Err(denied(request, "this namespace may not be deleted"))
                }
                _ => Ok(()),
            };
        }
        if request.namespace.is_empty() || matches!(request.operation, Operation::Delete | Operation::Connect) {
            return Ok(());
        }
        let namespace = request.namespace;
        let found = self.find(namespace).await?;
        if request.operation == Operation::Create && is_terminating(&found) {
            let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
            return Err(denied(request, why).with_cause(Cause {
                reason: "NamespaceTerminating".into(),
                message: format!("namespace {namespace} is being terminated"),
                field: "metadata.namespace".into(),
            }));
        }
        Ok(())
    }
}

fn is_terminating(namespace: &Stored) -> bool {
    // Every create comes by here: the bytes are parsed only if they hold the word at all.
    memchr::memmem::find(&namespace.json, b"\"deletionTimestamp\"").is_some()
        && !namespace.value()["metadata"]["deletionTimestamp"].is_null()
}
