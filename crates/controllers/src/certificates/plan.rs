//! Which requests are to be signed, and what each signer lets pass. Pure.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};

const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";

/// Certificates hold at most a year, as upstream's `--cluster-signing-duration` has it.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const SHORTEST: Duration = Duration::from_secs(600);

/// What a request asks to be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requested {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    /// Names of every other sort: mail addresses, URIs.
    pub other_names: usize,
}

/// What a request calls for now.
#[derive(Debug, PartialEq, Eq)]
pub enum Work<'a> {
    /// It is not approved, it is done with, or its signer is somebody else.
    None,
    Sign {
        pem: &'a [u8],
        signer: &'a str,
        usages: &'a [String],
        lifetime: Duration,
    },
}

/// How a request ends.
#[derive(Debug)]
pub enum Plan {
    Issue(ByteString),
    Fail { reason: &'static str, why: String },
}

pub fn work(request: &CertificateSigningRequest) -> Work<'_> {
    let spec = &request.spec;
    let status = request.status.as_ref();
    let has = |kind: &str| {
        let mut conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.any(|condition| condition.type_ == kind && condition.status == "True")
    };
    let is_signed = status.and_then(|status| status.certificate.as_ref()).is_some_and(|pem| !pem.0.is_empty());
    let is_ours = [API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING].contains(&spec.signer_name.as_str());
    if !is_ours || is_signed || !has("Approved") || has("Denied") || has("Failed") {
        return Work::None;
    }
    let asked = spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    Work::Sign {
        pem: &spec.request.0,
        signer: &spec.signer_name,
        usages: spec.usages.as_deref().unwrap_or_default(),
        lifetime: asked.unwrap_or(LONGEST).clamp(SHORTEST, LONGEST),
    }
}

/// What a signer stands for: it puts its name to nothing else, whoever approved it.
pub fn permit(signer: &str, usages: &[String], asked: &Requested) -> Result<(), String> {
    match signer {
        API_CLIENT => only_usages(usages, "client auth"),
        KUBELET_CLIENT => {
            is_of_a_node(asked)?;
            if asked.dns_names.len() + asked.addresses.len() + asked.other_names > 0 {
                return Err("DNS, IP, email and URI subjectAltNames are not allowed".to_owned());
            }
            only_usages(usages, "client auth")
        }
        KUBELET_SERVING => {
            is_of_a_node(asked)?;
            if asked.dns_names.is_empty() && asked.addresses.is_empty() {
                return Err("DNS or IP subjectAltName is required".to_owned());
            }
            if asked.other_names > 0 {
                return Err("email and URI subjectAltNames are not allowed".to_owned());
            }
            only_usages(usages, "server auth")
        }
        other => Err(format!("no signer is known as {other}")),
    }
}

fn is_of_a_node(asked: &Requested) -> Result<(), String> {
    if asked.organizations != ["system:nodes"] {
        return Err("organization is not system:nodes".to_owned());
    }
    match asked.common_name.strip_prefix("system:node:") {
        Some(name) if !name.is_empty() => Ok(()),
        _ => Err("subject common name does not begin with system:node:".to_owned()),
    }
}

/// The one purpose, and the two ways in which TLS uses a key for it.
fn only_usages(usages: &[String], purpose: &str) -> Result<(), String> {
    if !usages.iter().any(|usage| usage == purpose) {
        return Err(format!("usages did not contain {purpose}"));
    }
    let known = ["digital signature", "key encipherment", purpose];
    match usages.iter().find(|usage| !known.contains(&usage.as_str())) {
        Some(other) => Err(format!("usage {other:?} is not among those of this signer: {}", known.join(", "))),
        None => Ok(()),
    }
}

/// The request with its end in its status.
pub fn carried_out(request: &CertificateSigningRequest, plan: Plan, now: Timestamp) -> CertificateSigningRequest {
    let mut changed = request.clone();
    let status = changed.status.get_or_insert_default();
    match plan {
        Plan::Issue(certificate) => status.certificate = Some(certificate),
        Plan::Fail { reason, why } => {
            status.conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
                type_: "Failed".to_owned(),
                status: "True".to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(why),
                last_update_time: Some(Time(now)),
                last_transition_time: Some(Time(now)),
            });
        }
    }
    changed
}
