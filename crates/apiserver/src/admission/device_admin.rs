use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::field::{FieldError, FieldPath};
use knarr_api::status::ApiError;
use serde_json::Value;

use super::is_main;
use crate::builtin;
use crate::contract::{Admission, AdmissionRequest, Lookup, Operation};
use crate::json::{items, text};

const GROUP: &str = "resource.k8s.io";
const LABEL: &str = "resource.kubernetes.io/admin-access";

/// Lets claims administer devices that others use only where the namespace says so. Upstream has it among the rules of
/// the resources, which here know nothing of namespaces.
pub struct DeviceAdminAccess {
    lookup: Arc<dyn Lookup>,
}

impl DeviceAdminAccess {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
    }

    async fn is_allowed(&self, namespace: &str) -> Result<bool, ApiError> {
        let resource = builtin::namespaces();
        let found = match self.lookup.get(resource, "", namespace) {
            Some(found) => Some(found),
            None => self.lookup.get_fresh(resource, "", namespace).await?,
        };
        Ok(found.is_some_and(|found| text(&found.value()["metadata"]["labels"][LABEL]) == "true"))
    }
}

#[async_trait]
impl Admission for DeviceAdminAccess {
    fn name(&self) -> &'static str {
        "DeviceAdminAccess"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        let (spec, path): (&Value, _) = match () {
            () if request.operation != Operation::Create => return Ok(()),
            () if is_main(request, GROUP, "resourceclaims") => (&request.object["spec"], "spec"),
            () if is_main(request, GROUP, "resourceclaimtemplates") => (&request.object["spec"]["spec"], "spec.spec"),
            () => return Ok(()),
        };
        let asks = |(_, wish): &(usize, &Value)| wish["exactly"]["adminAccess"] == true;
        let asking: Vec<usize> =
            items(&spec["devices"]["requests"]).iter().enumerate().filter(asks).map(|(i, _)| i).collect();
        if asking.is_empty() || self.is_allowed(request.namespace).await? {
            return Ok(());
        }
        let why = format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace");
        let list = format!("{path}.devices.requests");
        let list = FieldPath::new(&list);
        let refused = asking.into_iter().map(|i| {
            let request = list.index(i);
            let exactly = request.child("exactly");
            FieldError::forbidden(&exactly.child("adminAccess"), why.clone())
        });
        let kind = format!("{}.{GROUP}", request.resource.kind);
        Err(ApiError::invalid(&kind, text(&request.object["metadata"]["name"]), refused.collect()))
    }
}
