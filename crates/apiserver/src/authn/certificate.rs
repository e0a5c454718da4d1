use async_trait::async_trait;

use crate::Env;
use crate::contract::{AuthenticationError, Authenticator, Credentials, UserInfo};
use crate::pki::peer_identity;

/// Users by client certificate: the common name is the user, each organization a group. The TLS handshake has
/// verified the chain; only the end of its life is looked at again, because connections outlive it.
pub struct ClientCertificates {
    env: Env,
}

impl ClientCertificates {
    pub fn new(env: Env) -> Self {
        Self { env }
    }
}

#[async_trait]
impl Authenticator for ClientCertificates {
    async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Option<UserInfo>, AuthenticationError> {
        let Some(certificate) = credentials.peer_certificates.first() else { return Ok(None) };
        let peer = peer_identity(certificate).ok_or_else(|| {
            AuthenticationError::Rejected("the client certificate has no common name to take the user from".into())
        })?;
        if self.env.now().as_second() > peer.not_after {
            return Err(AuthenticationError::Rejected(format!(
                "the client certificate of {} has expired during the connection",
                peer.common_name
            )));
        }
        Ok(Some(UserInfo { name: peer.common_name, groups: peer.organizations, ..UserInfo::default() }))
    }
}
