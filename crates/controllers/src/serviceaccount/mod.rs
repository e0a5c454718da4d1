//! Gives each namespace its `default` ServiceAccount, which pods run under that name none.

use k8s_openapi::{
    api::core::v1::{Namespace, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_client::{ObjectKey, Outcome, WorkQueue, call, errors, meta, worker};

use crate::{Context, Error};

pub const NAME: &str = "service-account-controller";
const DEFAULT: &str = "default";

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let namespaces = context.informers.of::<Namespace>();
    let accounts = context.informers.of::<ServiceAccount>();
    if !(namespaces.synced().await && accounts.synced().await) {
        return;
    }
    namespaces.feed(&queue, |change| {
        change.new.as_ref().map(|namespace| ObjectKey::new("", meta::name(&namespace.metadata)))
    });
    accounts.feed(&queue, |change| {
        let account = &change.latest().metadata;
        (change.is_deletion() && meta::name(account) == DEFAULT).then(|| ObjectKey::new("", meta::namespace(account)))
    });
    worker::run(NAME, queue, 2, move |key| {
        let (context, namespaces, accounts) = (context.clone(), namespaces.clone(), accounts.clone());
        async move {
            let alive = namespaces.get("", &key.name).is_some_and(|n| n.metadata.deletion_timestamp.is_none());
            if !alive || accounts.get(&key.name, DEFAULT).is_some() {
                return Ok(Outcome::Done);
            }
            let meta = ObjectMeta { name: Some(DEFAULT.to_owned()), namespace: Some(key.name), ..Default::default() };
            let account = ServiceAccount { metadata: meta, ..Default::default() };
            match call::create(&context.client, &account).await {
                Ok(_) => Ok(Outcome::Done),
                Err(error) if errors::is_already_exists(&error) || errors::is_namespace_terminating(&error) => {
                    Ok(Outcome::Done)
                }
                Err(source) => Err(Error::Api { what: "creating the default ServiceAccount", source }),
            }
        }
    })
    .await;
}
