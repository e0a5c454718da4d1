use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::quantity::Quantity;
use knarr_api::status::ApiError;
use serde_json::Value;

use super::{denied, is_main};
use crate::builtin;
use crate::contract::{Admission, AdmissionRequest, Lookup, Operation};
use crate::json::{list_mut, text};

/// Puts the finalizers on claims, volumes and classes of attributes that keep them while they are in use; controllers take
/// them off.
pub struct InUseProtection;

#[async_trait]
impl Admission for InUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let finalizer = match () {
            () if request.operation != Operation::Create => return Ok(()),
            () if is_main(request, "", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
            () if is_main(request, "", "persistentvolumes") => "kubernetes.io/pv-protection",
            () if is_main(request, "storage.k8s.io", "volumeattributesclasses") => "kubernetes.io/vac-protection",
            () => return Ok(()),
        };
        let finalizers = list_mut(&mut request.object["metadata"], "finalizers");
        if !finalizers.iter().any(|one| one == finalizer) {
            finalizers.push(finalizer.into());
        }
        Ok(())
    }
}

/// Lets a claim grow only where its class says that its volumes can.
pub struct ClaimResize {
    lookup: Arc<dyn Lookup>,
}

impl ClaimResize {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
    }

    fn can_grow(&self, claim: &Value) -> bool {
        let class = text(&claim["spec"]["storageClassName"]);
        let class = self.lookup.get(builtin::storage_classes(), "", class).filter(|_| !class.is_empty());
        class.is_some_and(|class| class.value()["allowVolumeExpansion"] == true)
    }
}

#[async_trait]
impl Admission for ClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        let Some(old) = request.old.filter(|_| request.operation == Operation::Update) else { return Ok(()) };
        if !is_main(request, "", "persistentvolumeclaims") {
            return Ok(());
        }
        let size = |claim: &Value| Quantity::or_zero(&claim["spec"]["resources"]["requests"]["storage"]);
        if size(&request.object) <= size(old) {
            return Ok(());
        }
        if old["status"]["phase"] != "Bound" {
            return Err(denied(request, "Only bound persistent volume claims can be expanded"));
        }
        if !self.can_grow(&request.object) {
            let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
                       support resize";
            return Err(denied(request, why));
        }
        Ok(())
    }
}
