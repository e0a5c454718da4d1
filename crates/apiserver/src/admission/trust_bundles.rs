use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::status::ApiError;
use serde_json::Value;

use super::certificates::{GROUP, may};
use super::{denied, is_of};
use crate::contract::{Admission, AdmissionRequest, Authorizer, Operation};
use crate::json::text;

/// Whose certificates are trusted in a signer's name says who may attest for it (upstream's ClusterTrustBundleAttest).
pub struct TrustBundles {
    authorizer: Arc<dyn Authorizer>,
}

impl TrustBundles {
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer }
    }
}

#[async_trait]
impl Admission for TrustBundles {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        let is_write = matches!(request.operation, Operation::Create | Operation::Update);
        // Validation keeps a bundle from changing its signer.
        let signer = text(&request.object["spec"]["signerName"]);
        if !is_write
            || !is_of(request, GROUP, "clustertrustbundles")
            || signer.is_empty()
            || request.old.is_some_and(|old| says_the_same(&request.object, old))
            || may(&*self.authorizer, request, "attest", signer).await
        {
            return Ok(());
        }
        Err(denied(request, format!("user not permitted to attest for signerName {signer:?}")))
    }
}

/// Nothing differs but what garbage collection writes.
fn says_the_same(new: &Value, old: &Value) -> bool {
    let without = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.retain(|key, _| !matches!(key.as_str(), "ownerReferences" | "finalizers" | "managedFields"));
        }
        object
    };
    without(new) == without(old)
}
