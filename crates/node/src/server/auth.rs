//! Only the API server may ask, and anyone may ask whether the node is well.

use http::StatusCode;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Refusal;

/// Groups whose members may ask for everything: the API server's own, and the cluster's masters.
const GROUPS: [&str; 2] = ["knarr:apiserver", "system:masters"];
const USER: &str = "kube-apiserver-kubelet-client";

/// `certificates` were verified against the cluster's CA by the handshake.
pub fn check(certificates: &[CertificateDer<'_>], path: &str) -> Result<(), Refusal> {
    if path == "/healthz" {
        return Ok(());
    }
    let Some(certificate) = certificates.first() else {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized"));
    };
    let unreadable = |_| Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized: the client certificate cannot be read");
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(unreadable)?;
    let subject = certificate.subject();
    // Of several the last counts, as for the API server.
    let name = subject.iter_common_name().last().and_then(|name| name.as_str().ok()).unwrap_or_default();
    let mut groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    if name == USER || groups.any(|group| GROUPS.contains(&group)) {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::FORBIDDEN, format!("Forbidden (user={name}, path={path})")))
}
