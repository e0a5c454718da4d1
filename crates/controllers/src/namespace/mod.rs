//! Empties a namespace that is being deleted, of whatever resources the server knows, and then lets it go.
//! (<https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/>)

mod plan;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, worker};
use serde::Deserialize;

use crate::{
    Context, Error,
    common::discovery::{self, Served},
};
use plan::{Findings, Remaining};

pub const NAME: &str = "namespace-controller";
const WORKERS: usize = 4;
/// Collections emptied at once, per namespace.
const PARALLEL: usize = 8;
/// A namespace whose content goes away slowly is looked at again soon, then less often.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

pub async fn run(context: Context) {
    let queue = WorkQueue::with_backoff(context.cancel.clone(), BACKOFF.0, BACKOFF.1);
    let namespaces = context.informers.of::<Namespace>();
    if !namespaces.synced().await {
        return;
    }
    namespaces.feed(&queue, |change| {
        let namespace = change.new.as_ref()?;
        namespace.metadata.deletion_timestamp.as_ref()?;
        Some(ObjectKey::of(&**namespace))
    });
    let context = Arc::new(context);
    worker::run(NAME, queue, WORKERS, move |key| {
        let (context, namespaces) = (context.clone(), namespaces.clone());
        async move { reconcile(&context, &namespaces, key).await }
    })
    .await;
}

async fn reconcile(context: &Context, namespaces: &Informer<Namespace>, key: ObjectKey) -> Result<Outcome, Error> {
    let Some(cached) = namespaces.get("", &key.name) else { return Ok(Outcome::Done) };
    if !plan::is_ours(&cached) {
        return Ok(Outcome::Done);
    }
    let live =
        call::get::<Namespace>(&context.client, "", &key.name).await.map_err(Error::api("reading the namespace"))?;
    let Some(namespace) = live.filter(plan::is_ours) else { return Ok(Outcome::Done) };
    let findings = empty(&context.client, &key.name).await;
    if let Some(status) = plan::status(&namespace, &findings, context.clock.now()) {
        let changed = Namespace { status: Some(status), ..namespace.clone() };
        let written = errors::optional(call::replace_status(&context.client, &changed).await);
        let written = written.map_err(Error::api("writing the namespace's status"))?;
        if findings.is_empty() {
            return match written {
                Some(written) => finalize(context, &written).await,
                None => Ok(Outcome::Done),
            };
        }
    }
    if findings.is_empty() { finalize(context, &namespace).await } else { Ok(Outcome::Again) }
}

/// Deletes everything; answers what is left. Pods go first: what they use must not vanish under them. What other servers
/// keep of the namespace is deleted through them; where one of them does not even say what that is, the rest goes all the
/// same and the namespace waits.
async fn empty(client: &kube::Client, namespace: &str) -> Findings {
    let mut findings = Findings::default();
    let discovered = match discovery::certain(client).await {
        Ok(discovered) => discovered,
        Err(error) => {
            findings.discovery_failure = Some(errors::message(&error));
            return findings;
        }
    };
    findings.discovery_failure = plan::unknown(&discovered.stale);
    let served = discovered.served.into_iter();
    let deletable = served.filter(|served| served.namespaced && served.can("delete") && served.can("list"));
    let (pods, others): (Vec<_>, Vec<_>) =
        deletable.partition(|served| served.group.is_empty() && served.plural == "pods");
    for batch in [pods, others] {
        let emptied = stream::iter(batch).map(|served| async move {
            let result = empty_one(client, &served, namespace).await;
            (served, result)
        });
        let results: Vec<_> = emptied.buffer_unordered(PARALLEL).collect().await;
        for (served, result) in results {
            match result {
                Ok(remaining) if remaining.count == 0 => {}
                Ok(remaining) => findings.remaining.push((served, remaining)),
                Err(error) => findings.content_failures.push(errors::message(&error)),
            }
        }
        if !findings.remaining.is_empty() || !findings.content_failures.is_empty() {
            break;
        }
    }
    findings.remaining.sort_by(|(a, _), (b, _)| a.cmp(b));
    // In whatever order they came: a status that only changes its order is written again and again.
    findings.content_failures.sort_unstable();
    findings
}

async fn empty_one(client: &kube::Client, served: &Served, namespace: &str) -> Result<Remaining, kube::Error> {
    let path = served.path(namespace);
    let remaining = list(client, &path).await?;
    if remaining.count == 0 {
        return Ok(remaining);
    }
    let at_once = served.can("deletecollection") && delete(client, &path).await?.is_some();
    if !at_once {
        for name in &remaining.names {
            delete(client, &served.object_path(namespace, name)).await?;
        }
    }
    list(client, &path).await
}

async fn delete(client: &kube::Client, path: &str) -> Result<Option<String>, kube::Error> {
    let options = serde_json::json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
    let sent = discovery::send(client, http::Method::DELETE, path, "application/json", Some(options)).await;
    // What is gone already is as good as deleted.
    supported(sent.map(Option::unwrap_or_default))
}

/// `None` where the server can do no such thing, whatever its discovery says.
fn supported<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match errors::optional(result) {
        Err(error) if errors::code(&error) == Some(405) => Ok(None),
        other => other,
    }
}

async fn list(client: &kube::Client, path: &str) -> Result<Remaining, kube::Error> {
    #[derive(Deserialize, Default)]
    struct Item {
        #[serde(default)]
        metadata: Metadata,
    }
    #[derive(Deserialize, Default)]
    struct Metadata {
        #[serde(default)]
        name: String,
        #[serde(default)]
        finalizers: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        items: Option<Vec<Item>>,
    }
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
    let request = http::Request::get(path).header(http::header::ACCEPT, accept).body(Vec::new());
    let body: Option<Body> = supported(client.request(request.map_err(kube::Error::HttpError)?).await)?;
    let items = body.and_then(|body| body.items).unwrap_or_default();
    let mut remaining = Remaining { count: items.len(), ..Remaining::default() };
    for item in items {
        for finalizer in item.metadata.finalizers {
            *remaining.finalizers.entry(finalizer).or_default() += 1;
        }
        remaining.names.push(item.metadata.name);
    }
    Ok(remaining)
}

/// Takes the `kubernetes` finalizer off; with that the server lets the namespace go.
async fn finalize(context: &Context, namespace: &Namespace) -> Result<Outcome, Error> {
    let finalized = plan::without_our_finalizer(namespace);
    let body = serde_json::to_value(&finalized)
        .map_err(|error| Error::Malformed { field: "spec", message: error.to_string() })?;
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let path = format!("/api/v1/namespaces/{name}/finalize");
    let sent = discovery::send(&context.client, http::Method::PUT, &path, "application/json", Some(body)).await;
    match sent {
        Ok(_) => Ok(Outcome::Done),
        Err(error) if errors::is_conflict(&error) => Ok(Outcome::Again),
        Err(source) => Err(Error::Api { what: "removing the namespace's finalizer", source }),
    }
}
