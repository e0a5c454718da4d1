use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;

use crate::Env;
use crate::contract::{AuthenticationError, Authenticator, Credentials, UserInfo};
use crate::pki::{PeerIdentity, peer_identity};

/// How many certificates are kept parsed; a cluster has one for each node and a few for people.
const MAX_KNOWN: usize = 4096;

/// Users by client certificate: the common name is the user, each organization a group. The TLS handshake has
/// verified the chain; only the end of its life is looked at again, because connections outlive it.
pub struct ClientCertificates {
    env: Env,
    /// A certificate comes with every request of its connection and says the same each time.
    known: Mutex<HashMap<CertificateDer<'static>, Arc<PeerIdentity>>>,
}

impl ClientCertificates {
    pub fn new(env: Env) -> Self {
        Self { env, known: Mutex::default() }
    }

    fn identity(&self, certificate: &CertificateDer<'static>) -> Option<Arc<PeerIdentity>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(certificate) {
            return Some(found.clone());
        }
        let identity = Arc::new(peer_identity(certificate)?);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(certificate.clone(), identity.clone());
        Some(identity)
    }
}

#[async_trait]
impl Authenticator for ClientCertificates {
    async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Option<UserInfo>, AuthenticationError> {
        let Some(certificate) = credentials.peer_certificates.first() else { return Ok(None) };
        let peer = self.identity(certificate).ok_or_else(|| {
            AuthenticationError::Rejected("the client certificate has no common name to take the user from".into())
        })?;
        let PeerIdentity { common_name, organizations, not_after } = &*peer;
        if self.env.now().as_second() > *not_after {
            return Err(AuthenticationError::Rejected(format!(
                "the client certificate of {common_name} has expired during the connection"
            )));
        }
        Ok(Some(UserInfo { name: common_name.clone(), groups: organizations.clone(), ..UserInfo::default() }))
    }
}
