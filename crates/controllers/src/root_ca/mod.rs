//! Puts the certificate authority of the API server into each namespace, as the ConfigMap `kube-root-ca.crt`, where
//! pods' projected volumes take it from.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_client::{ObjectKey, Outcome, WorkQueue, call, errors, informer::Scope, meta, worker};

use crate::{Context, Error};

pub const NAME: &str = "root-ca-cert-publisher";
const MAP: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
);

pub async fn run(context: Context, root_ca_pem: Arc<str>) {
    let queue = WorkQueue::new(context.cancel.clone());
    let namespaces = context.informers.of::<Namespace>();
    // Only the maps of this name: there is no reason to hold everybody's ConfigMaps in memory.
    let maps = context.informers.with_params::<ConfigMap>(Scope::fields(format!("metadata.name={MAP}")));
    if !(namespaces.synced().await && maps.synced().await) {
        return;
    }
    namespaces.feed(&queue, |change| {
        change.new.as_ref().map(|namespace| ObjectKey::new("", meta::name(&namespace.metadata)))
    });
    maps.feed(&queue, |change| [ObjectKey::new("", meta::namespace(&change.latest().metadata))]);
    worker::run(NAME, queue, 2, move |key| {
        let (context, namespaces, maps, root_ca_pem) =
            (context.clone(), namespaces.clone(), maps.clone(), root_ca_pem.clone());
        async move {
            let alive = namespaces.get("", &key.name).is_some_and(|n| n.metadata.deletion_timestamp.is_none());
            if !alive {
                return Ok(Outcome::Done);
            }
            publish(&context, &key.name, maps.get(&key.name, MAP).as_deref(), &root_ca_pem)
                .await
                .map(|()| Outcome::Done)
        }
    })
    .await;
}

async fn publish(context: &Context, namespace: &str, there: Option<&ConfigMap>, pem: &str) -> Result<(), Error> {
    let data = BTreeMap::from([(KEY.to_owned(), pem.to_owned())]);
    let written = match there {
        Some(there) if there.data.as_ref() == Some(&data) => return Ok(()),
        Some(there) => call::replace(&context.client, &ConfigMap { data: Some(data), ..there.clone() }).await,
        None => {
            let annotations = BTreeMap::from([(DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned())]);
            let metadata = ObjectMeta {
                name: Some(MAP.to_owned()),
                namespace: Some(namespace.to_owned()),
                annotations: Some(annotations),
                ..Default::default()
            };
            call::create(&context.client, &ConfigMap { metadata, data: Some(data), ..Default::default() }).await
        }
    };
    match written {
        Ok(_) => Ok(()),
        Err(error) if errors::is_already_exists(&error) || errors::is_namespace_terminating(&error) => Ok(()),
        Err(source) => Err(Error::Api { what: "publishing the root certificate", source }),
    }
}
