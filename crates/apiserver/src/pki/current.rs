use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::{ClientConfig, ServerConfig};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::cluster::Leaves;
use super::tls::{client_config_showing, server_config_showing};
use super::{ApiTls, CertificateAuthority, FrontProxy, Leaf, PkiError, ProxyIdentity, ServerNames, Shown};
use crate::Env;

/// Clocks are set and machines sleep: the end of a certificate is looked at again and again, and not waited for.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// The certificates of a server's process while it runs: what is near its end is made anew, and shown from then on.
pub struct Certificates {
    directory: PathBuf,
    names: ServerNames,
    authority: Arc<CertificateAuthority>,
    server: Arc<Shown>,
    kubelet_client: Arc<Shown>,
    kubelet: Arc<Shown>,
    front_proxy: Arc<Shown>,
    front_proxy_authority_pem: String,
}

impl Certificates {
    /// In a directory that [`super::Pki::open`] made for the same names.
    pub fn open(
        directory: PathBuf,
        names: ServerNames,
        authority: Arc<CertificateAuthority>,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let Leaves { server, admin: _, kubelet_client, kubelet } = Leaves::open(&directory, &names, &authority, now)?;
        let front_proxy = FrontProxy::open(&directory, now)?;
        Ok(Self {
            // A machine that joins knows only the hash of the authority's key, and has to be shown the authority.
            server: Shown::with_authority(&server, authority.certificate())?,
            kubelet_client: Shown::new(&kubelet_client)?,
            kubelet: Shown::new(&kubelet)?,
            front_proxy: Shown::new(&front_proxy.client)?,
            front_proxy_authority_pem: front_proxy.authority.certificate_pem().to_owned(),
            directory,
            names,
            authority,
        })
    }

    /// What the API server serves with.
    pub fn api(&self) -> Result<ApiTls, PkiError> {
        ApiTls::showing(self.server.clone(), self.authority.certificate())
    }

    /// What the API server calls other API servers with.
    pub fn front_proxy(&self) -> ProxyIdentity {
        ProxyIdentity::new(self.front_proxy.clone())
    }

    /// Who stands for front proxies: for those that this server calls, and, where nobody else is named, for those that
    /// call it.
    pub fn front_proxy_authority_pem(&self) -> &str {
        &self.front_proxy_authority_pem
    }

    /// What the API server calls nodes with.
    pub fn kubelet_client(&self) -> Result<ClientConfig, PkiError> {
        client_config_showing(self.authority.certificate(), self.kubelet_client.clone())
    }

    /// What the node in the server's own process serves with.
    pub fn kubelet(&self) -> Result<ServerConfig, PkiError> {
        server_config_showing(self.authority.certificate(), self.kubelet.clone())
    }

    /// Makes anew what is near its end by now, and shows it. Gives the administrator's, which others have to be told of.
    pub fn renew(&self, now: Timestamp) -> Result<Leaf, PkiError> {
        let Leaves { server, admin, kubelet_client, kubelet } =
            Leaves::open(&self.directory, &self.names, &self.authority, now)?;
        self.server.set(&server)?;
        self.kubelet_client.set(&kubelet_client)?;
        self.kubelet.set(&kubelet)?;
        self.front_proxy.set(&FrontProxy::open(&self.directory, now)?.client)?;
        Ok(admin)
    }

    /// Renews until cancelled. `tell` gets the administrator's certificate with every look, new or not, on a thread where
    /// it may write files: what it could not do it can do again.
    pub async fn keep_current(
        self: Arc<Self>,
        env: Env,
        tell: Arc<dyn Fn(&Leaf) + Send + Sync>,
        cancel: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                () = cancel.cancelled() => return,
            }
            let (all, env, tell) = (self.clone(), env.clone(), tell.clone());
            let looked = tokio::task::spawn_blocking(move || all.renew(env.now()).map(|admin| tell(&admin))).await;
            match looked {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the server's certificates cannot be renewed; will retry");
                }
                Err(error) => tracing::error!(%error, "renewing the server's certificates failed; will retry"),
            }
        }
    }
}
