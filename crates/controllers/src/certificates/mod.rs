//! Signs the certificate requests that were approved, for the signers that the cluster's own authority stands behind.
//! Approving is for others: people, or controllers of theirs.
//! (<https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers>)

mod plan;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use k8s_openapi::{ByteString, api::certificates::v1::CertificateSigningRequest};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, worker};

use crate::{Context, Error};
pub use plan::Requested;
use plan::{Plan, Work};

pub const NAME: &str = "certificate-controller";
const WORKERS: usize = 2;

/// The cluster's authority, whose key is with whoever hands this in.
pub trait CertificateAuthority: Send + Sync + 'static {
    /// What a request in PEM asks to be called, or what is wrong with it.
    fn read(&self, request: &[u8]) -> Result<Requested, String>;
    /// The certificate in PEM, good for `usages` as `certificates.k8s.io` names them.
    fn sign(&self, request: &[u8], usages: &[String], lifetime: Duration) -> Result<String, String>;
}

struct Controller {
    context: Context,
    requests: Informer<CertificateSigningRequest>,
    authority: Arc<dyn CertificateAuthority>,
}

pub async fn run(context: Context, authority: Arc<dyn CertificateAuthority>) {
    let queue = WorkQueue::new(context.cancel.clone());
    let requests = context.informers.of::<CertificateSigningRequest>();
    if !requests.synced().await {
        return;
    }
    requests.feed_keys(&queue);
    let controller = Arc::new(Controller { context, requests, authority });
    worker::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(request) = self.requests.get("", &key.name) else { return Ok(Outcome::Done) };
        let now = self.context.clock.now();
        let plan = match plan::work(&request) {
            Work::None => return Ok(Outcome::Done),
            Work::Sign { pem, signer, usages, lifetime } => {
                let permitted = self.authority.read(pem).and_then(|asked| plan::permit(signer, usages, &asked));
                match permitted {
                    Ok(()) => match self.authority.sign(pem, usages, lifetime) {
                        Ok(certificate) => Plan::Issue(ByteString(certificate.into_bytes())),
                        Err(why) => Plan::Fail { reason: "SigningError", why },
                    },
                    Err(why) => Plan::Fail { reason: "SignerValidationFailure", why },
                }
            }
        };
        let changed = plan::carried_out(&request, plan, now);
        let written = errors::optional(call::replace_status(&self.context.client, &changed).await);
        written.map_err(Error::api("writing a certificate"))?;
        Ok(Outcome::Done)
    }
}
