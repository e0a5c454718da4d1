//! Publishes the authority behind the API server's certificates as a ClusterTrustBundle, where projected volumes find it by
//! its signer, and takes away those of authorities before it.
//! (<https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#cluster-trust-bundles>)

use std::{fmt::Write as _, sync::Arc};

use k8s_openapi::{
    api::certificates::v1beta1::{ClusterTrustBundle, ClusterTrustBundleSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, informer::Scope, worker};
use kube::api::DeleteParams;
use ring::digest::{SHA256, digest};

use crate::{Context, Error};

pub const NAME: &str = "kube-apiserver-serving-clustertrustbundle-publisher";
const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";

pub async fn run(context: Context, authority_pem: Arc<str>) {
    let queue = WorkQueue::new(context.cancel.clone());
    let bundles =
        context.informers.with_params::<ClusterTrustBundle>(Scope::fields(format!("spec.signerName={SIGNER}")));
    if !bundles.synced().await {
        return;
    }
    // One key: what is to go and what is to be there is seen together.
    let key = ObjectKey::new("", name_of(&authority_pem));
    queue.add(key.clone());
    bundles.feed(&queue, move |_| [key.clone()]);
    worker::run(NAME, queue, 1, move |key| {
        let (context, bundles, pem) = (context.clone(), bundles.clone(), authority_pem.clone());
        async move { publish(&context, &bundles, key.name, &pem).await.map(|()| Outcome::Done) }
    })
    .await;
}

/// Another authority is another bundle, as upstream has it.
fn name_of(pem: &str) -> String {
    let mut name = format!("{}:", SIGNER.replace('/', ":"));
    for byte in &digest(&SHA256, pem.as_bytes()).as_ref()[..12] {
        _ = write!(name, "{byte:02x}");
    }
    name
}

async fn publish(
    context: &Context,
    bundles: &Informer<ClusterTrustBundle>,
    name: String,
    pem: &str,
) -> Result<(), Error> {
    let spec = ClusterTrustBundleSpec { signer_name: Some(SIGNER.to_owned()), trust_bundle: pem.to_owned() };
    let written = match bundles.get("", &name) {
        Some(there) if there.spec == spec => Ok(()),
        Some(there) => call::replace(&context.client, &ClusterTrustBundle { spec, ..(*there).clone() }).await.map(drop),
        None => {
            let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
            call::create(&context.client, &ClusterTrustBundle { metadata, spec }).await.map(drop)
        }
    };
    if let Err(source) = written
        && !errors::is_already_exists(&source)
    {
        return Err(Error::Api { what: "publishing the API server's trust bundle", source });
    }
    for other in bundles.list().iter().filter(|bundle| bundle.metadata.name.as_ref() != Some(&name)) {
        let deleted = call::delete(&context.client, &**other, DeleteParams::default()).await;
        deleted.map_err(Error::api("removing an old trust bundle"))?;
    }
    Ok(())
}
