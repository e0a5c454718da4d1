//! One certificate: a new key, a request to the API, and the wait for what comes of it.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
};
use knarr_client::{call, errors, meta};
use kube::api::ObjectMeta;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use tokio::time::{Instant, sleep};

use crate::{JoinError, files::Leaf};

const FIRST_LOOK: Duration = Duration::from_millis(10);
const LAST_LOOK: Duration = Duration::from_secs(2);
/// People may have to approve it.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
const SAY_AFTER: Duration = Duration::from_secs(5);

/// What the certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// To call the API with.
    Client,
    /// To serve the node's own port with.
    Serving { names: Vec<String>, addresses: Vec<IpAddr> },
}

/// Asks for a certificate in the name of a node and waits until it is there.
pub async fn request(client: &kube::Client, node: &str, machine: &str, of: &Use) -> Result<Leaf, JoinError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(JoinError::key)?;
    let made = call::create(client, &object(node, machine, of, &key)?).await.map_err(JoinError::Api)?;
    let name = made.metadata.name.unwrap_or_default();
    let certificate = wait(client, node, &name).await?;
    Ok(Leaf { certificate, key: key.serialize_pem() })
}

fn object(node: &str, machine: &str, of: &Use, key: &KeyPair) -> Result<CertificateSigningRequest, JoinError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    let (signer, purpose) = match of {
        Use::Client => ("kubernetes.io/kube-apiserver-client-kubelet", "client auth"),
        Use::Serving { names, addresses } => {
            for name in names {
                params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(JoinError::key)?));
            }
            params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
            ("kubernetes.io/kubelet-serving", "server auth")
        }
    };
    let pem = params.serialize_request(key).and_then(|request| request.pem()).map_err(JoinError::key)?;
    Ok(CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some("csr-".to_owned()),
            annotations: Some(BTreeMap::from([(meta::MACHINE.to_owned(), machine.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: signer.to_owned(),
            usages: Some(vec!["digital signature".to_owned(), purpose.to_owned()]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    })
}

async fn wait(client: &kube::Client, node: &str, name: &str) -> Result<String, JoinError> {
    let begun = Instant::now();
    let (mut pause, mut is_said) = (FIRST_LOOK, false);
    while begun.elapsed() < PATIENCE {
        match call::get::<CertificateSigningRequest>(client, "", name).await {
            Ok(Some(request)) => {
                if let Some(certificate) = outcome(&request, node)? {
                    return Ok(certificate);
                }
            }
            Ok(None) => return Err(JoinError::Denied { message: format!("the request {name} was removed") }),
            // The server answers, and will not answer otherwise.
            Err(error) if errors::code(&error).is_some_and(|code| matches!(code, 401 | 403)) => {
                return Err(JoinError::Api(error));
            }
            Err(error) => tracing::debug!(%error, "the certificate request cannot be looked at; will retry"),
        }
        if begun.elapsed() > SAY_AFTER && !std::mem::replace(&mut is_said, true) {
            tracing::warn!("waiting for approval of a certificate: kubectl certificate approve {name}");
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
    Err(JoinError::NotApproved { name: name.to_owned(), minutes: PATIENCE.as_secs() / 60 })
}

/// The certificate, where it is there; why there will be none, where that was decided.
fn outcome(request: &CertificateSigningRequest, node: &str) -> Result<Option<String>, JoinError> {
    let Some(status) = &request.status else { return Ok(None) };
    let no = status.conditions.iter().flatten().find(|c| matches!(c.type_.as_str(), "Denied" | "Failed"));
    if let Some(no) = no {
        let message = no.message.clone().unwrap_or_default();
        return Err(match no.reason.as_deref() {
            Some("NodeNameTaken") => JoinError::NameTaken { node: node.to_owned(), message },
            _ => JoinError::Denied { message },
        });
    }
    let certificate = status.certificate.as_ref().filter(|pem| !pem.0.is_empty());
    certificate.map(|pem| String::from_utf8(pem.0.clone()).map_err(JoinError::key)).transpose()
}
