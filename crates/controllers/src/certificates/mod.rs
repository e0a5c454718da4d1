//! Signs the certificate requests that were approved, for the signers that the cluster's own authority stands behind,
//! and removes old ones. What nodes ask for to join and to stay is approved here; all else is for people to approve, or
//! for controllers of theirs.
//! (<https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers>)

mod approve;
mod plan;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    ByteString,
    api::{
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
        certificates::v1::CertificateSigningRequest,
        core::v1::Node,
    },
};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, worker};
use kube::api::DeleteParams;

use crate::{Context, Error};
use approve::Approval;
pub use plan::Requested;
use plan::{Plan, Work};

pub const NAME: &str = "certificate-controller";
const WORKERS: usize = 2;
/// A node's addresses follow its registration at once.
const SOON: Duration = Duration::from_millis(100);

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
    nodes: Informer<Node>,
    authority: Arc<dyn CertificateAuthority>,
}

pub async fn run(context: Context, authority: Arc<dyn CertificateAuthority>) {
    let queue = WorkQueue::new(context.cancel.clone());
    let requests = context.informers.of::<CertificateSigningRequest>();
    let nodes = context.informers.of::<Node>();
    if !(requests.synced().await && nodes.synced().await) {
        return;
    }
    requests.feed_keys(&queue);
    let controller = Arc::new(Controller { context, requests, nodes, authority });
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
        let kept = approve::kept(&request, now);
        if kept.is_zero() {
            let deleted = call::delete(&self.context.client, &*request, DeleteParams::default()).await;
            return deleted.map(|_| Outcome::Done).map_err(Error::api("removing an old certificate request"));
        }
        let plan = match plan::work(&request) {
            Work::None => return Ok(Outcome::After(self.decide(&request).await?.unwrap_or(kept))),
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

    /// Approves or denies what nodes ask for. Answers when to look again, where that is before the request is old.
    async fn decide(&self, request: &CertificateSigningRequest) -> Result<Option<Duration>, Error> {
        let Ok(asked) = self.authority.read(&request.spec.request.0) else { return Ok(None) };
        let (kind, reason, message) = match approve::approval(request, &asked, &self.nodes.list()) {
            Approval::None => return Ok(None),
            Approval::Later => return Ok(Some(SOON)),
            Approval::Deny(why) => ("Denied", "NodeNameTaken", why),
            Approval::Approve(message) => ("Approved", "AutoApproved", message.to_owned()),
            Approval::Ask(subresources) => match self.first_permitted(request, &subresources).await? {
                Some(message) => ("Approved", "AutoApproved", message.to_owned()),
                None => return Ok(None),
            },
        };
        let changed = approve::decided(request, kind, reason, &message, self.context.clock.now());
        let written = call::replace_subresource(&self.context.client, &changed, "approval").await;
        errors::optional(written).map_err(Error::api("deciding on a certificate request"))?;
        Ok(None)
    }

    /// The message of the first of the subresources that whoever made the request may create.
    async fn first_permitted(
        &self,
        request: &CertificateSigningRequest,
        subresources: &[(&'static str, &'static str)],
    ) -> Result<Option<&'static str>, Error> {
        for (subresource, message) in subresources {
            let spec = SubjectAccessReviewSpec {
                user: request.spec.username.clone(),
                uid: request.spec.uid.clone(),
                groups: request.spec.groups.clone(),
                extra: request.spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".to_owned()),
                    version: Some("*".to_owned()),
                    resource: Some("certificatesigningrequests".to_owned()),
                    subresource: Some((*subresource).to_owned()),
                    verb: Some("create".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            };
            let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
            let answer = call::create(&self.context.client, &review).await;
            let answer = answer.map_err(Error::api("asking what a machine may"))?;
            if answer.status.is_some_and(|status| status.allowed) {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }
}
