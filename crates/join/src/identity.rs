use std::{path::Path, sync::Arc, time::Duration};

use knarr_api::bootstrap_token::hex;
use knarr_client::{
    Clock,
    https::{Endpoint, Https},
};
use rustls_pki_types::CertificateDer;

use crate::{
    JoinError, USER_AGENT,
    files::{Files, Leaf},
    keys::{self, Swap},
    pin::authority_hash,
};

/// How long a request waits for a server that is away, before its caller hears of it.
const PATIENCE: Duration = Duration::from_secs(10);
pub const CLIENT: &str = "client";
pub const SERVING: &str = "serving";

/// Who this node is to its cluster, for as long as the process runs.
pub struct Identity {
    pub(crate) files: Files,
    pub(crate) client_key: Arc<Swap>,
    pub(crate) serving_key: Arc<Swap>,
    authority: CertificateDer<'static>,
    https: Https,
}

impl Identity {
    /// What an earlier run left in the directory; `None` where this machine has not joined, or only begun to.
    pub fn open(directory: &Path, server: &str, seed: u64) -> Result<Option<Self>, JoinError> {
        let files = Files::at(directory);
        let (Some(authority), Some(client)) = (files.authority()?, files.leaf(CLIENT)?) else { return Ok(None) };
        Self::new(files, server, &authority, &client, seed).map(Some)
    }

    pub(crate) fn new(
        files: Files,
        server: &str,
        authority: &str,
        client: &Leaf,
        seed: u64,
    ) -> Result<Self, JoinError> {
        let damaged = || JoinError::Key("the CA's certificate is damaged".to_owned());
        let authority = keys::certificates(authority)?.into_iter().next().ok_or_else(damaged)?;
        let (client_key, serving_key) = (Arc::<Swap>::default(), Arc::<Swap>::default());
        client_key.set(client)?;
        if let Some(serving) = files.leaf(SERVING)? {
            serving_key.set(&serving)?;
        }
        let endpoint = Endpoint {
            url: server.to_owned(),
            tls: keys::client_config(&authority, client_key.clone())?,
            token: None,
            patience: PATIENCE,
            seed,
        };
        let https = Https::new(endpoint).map_err(|_| JoinError::Address { server: server.to_owned() })?;
        Ok(Self { files, client_key, serving_key, authority, https })
    }

    /// Removes the certificates, not the CA: the machine joins the same cluster anew.
    pub fn forget(directory: &Path) -> Result<(), JoinError> {
        let files = Files::at(directory);
        files.remove_leaf(CLIENT)?;
        files.remove_leaf(SERVING)
    }

    /// Acts as `system:node:NAME`.
    pub fn client(&self) -> kube::Client {
        self.https.client(USER_AGENT)
    }

    pub fn https(&self) -> &Https {
        &self.https
    }

    /// For the node's own port. Until the certificate for it is there, handshakes fail.
    pub fn server_config(&self) -> Result<rustls::ServerConfig, JoinError> {
        keys::server_config(&self.authority, self.serving_key.clone())
    }

    /// Refuses a token of another cluster than the one that was joined.
    pub fn check_authority(&self, expected: [u8; 32], server: &str) -> Result<(), JoinError> {
        let found = authority_hash(&self.authority);
        if found == Some(expected) {
            return Ok(());
        }
        tracing::debug!(joined = found.map(|hash| hex(&hash)), token = hex(&expected), "of different clusters");
        Err(JoinError::WrongAuthority { server: server.to_owned() })
    }

    pub fn is_expired(&self, clock: Clock) -> Result<(), JoinError> {
        match self.client_key.validity() {
            Some((_, ended)) if ended <= clock.now() => Err(JoinError::CertificateExpired { ended }),
            _ => Ok(()),
        }
    }
}
