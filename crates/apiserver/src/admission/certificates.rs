use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use knarr_api::field::{FieldError, FieldPath};
use knarr_api::status::ApiError;
use serde_json::{Value, json};

use super::{denied, is_of};
use crate::authn::MASTERS;
use crate::contract::{Admission, AdmissionRequest, Attributes, Authorizer, Decision, Operation};
use crate::json::{name, text};
use crate::pki::Requested;

pub(super) const GROUP: &str = "certificates.k8s.io";
const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// Writes into a CertificateSigningRequest who made it, and lets only those approve or sign who may for its
/// signer (upstream's CertificateApproval, CertificateSigning and CertificateSubjectRestriction).
pub struct CertificateRequests {
    authorizer: Arc<dyn Authorizer>,
}

impl CertificateRequests {
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer }
    }
}

/// Whether who asks may do this with a signer: a right to `example.org/*` is one to all of a domain's.
pub(super) async fn may(authorizer: &dyn Authorizer, request: &AdmissionRequest<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split_once('/').map(|(domain, _)| format!("{domain}/*")).unwrap_or_default();
    for name in [signer, &domain] {
        let attributes = Attributes {
            user: request.user,
            verb,
            namespace: "",
            group: GROUP,
            version: "v1",
            resource: "signers",
            subresource: "",
            name,
            field_selector: "",
            path: "",
            is_resource: true,
        };
        if authorizer.authorize(&attributes).await == Decision::Allow {
            return true;
        }
    }
    false
}

#[async_trait]
impl Admission for CertificateRequests {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if request.operation != Operation::Create
            || !is_of(request, GROUP, "certificatesigningrequests")
            || !request.object["spec"].is_object()
        {
            return Ok(());
        }
        let (user, spec) = (request.user, &mut request.object["spec"]);
        spec["username"] = user.name.as_str().into();
        spec["groups"] = json!(user.groups);
        if !user.uid.is_empty() {
            spec["uid"] = user.uid.as_str().into();
        }
        if !user.extra.is_empty() {
            spec["extra"] = json!(user.extra);
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        if !is_of(request, GROUP, "certificatesigningrequests") {
            return Ok(());
        }
        match request.operation {
            Operation::Create => {
                refuse_masters(request)?;
                return is_request(&request.object);
            }
            Operation::Update => {}
            Operation::Delete | Operation::Connect => return Ok(()),
        }
        let signer = text(&request.object["spec"]["signerName"]);
        let status = |value: &Value| value["status"]["certificate"].clone();
        let (verb, what) = match request.subresource {
            "approval" => ("approve", "approve"),
            "status" if request.old.map(status) != Some(status(&request.object)) => ("sign", "sign"),
            _ => return Ok(()),
        };
        if may(&*self.authorizer, request, verb, signer).await {
            return Ok(());
        }
        Err(denied(request, format!("user not permitted to {what} requests with signerName {signer:?}")))
    }
}

/// Nobody becomes an administrator for good by a certificate that this cluster signs for API clients.
fn refuse_masters(request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
    let spec = &request.object["spec"];
    if spec["signerName"] != API_CLIENT {
        return Ok(());
    }
    let pem = BASE64_STANDARD.decode(text(&spec["request"])).unwrap_or_default();
    // What cannot be read is refused as what it is.
    let asked = Requested::read(&pem).unwrap_or_default();
    if asked.organizations.iter().any(|organization| organization == MASTERS) {
        return Err(denied(request, format!("use of {API_CLIENT} signer with {MASTERS} group is not allowed")));
    }
    Ok(())
}

/// What no signer could read is refused while whoever wrote it is still there.
fn is_request(object: &Value) -> Result<(), ApiError> {
    let encoded = &object["spec"]["request"];
    let pem = BASE64_STANDARD.decode(text(encoded)).unwrap_or_default();
    let Err(why) = Requested::read(&pem) else { return Ok(()) };
    let error = FieldError::invalid(&FieldPath::new("spec").child("request"), encoded.clone(), why.to_string());
    Err(ApiError::invalid("CertificateSigningRequest.certificates.k8s.io", name(object), vec![error]))
}
