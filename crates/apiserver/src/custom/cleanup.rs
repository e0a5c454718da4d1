//! The end of a definition: first all its instances, each with its own finalizers respected, then the definition.
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#finalizers>)

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use knarr_api::{registry::Resource, status::ApiError};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Custom,
    names::{TERMINATING, set_condition},
};
use crate::{
    authn::server_itself,
    builtin,
    contract::{Lookup, Stored},
    json::{items, list_mut},
    server::Inner,
    write::{Call, WriteOptions},
};

/// Holds a definition until its instances are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Deletions under way at the same time.
const PARALLEL: usize = 32;
/// How often it is looked whether instances that wait for somebody are gone: first, and at last.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// After so long the condition says that instances stay.
const PATIENCE: Duration = Duration::from_secs(60);

/// True for a definition that waits for its instances to go.
pub fn is_due(definition: &Value) -> bool {
    let metadata = &definition["metadata"];
    !metadata["deletionTimestamp"].is_null() && items(&metadata["finalizers"]).iter().any(|name| name == FINALIZER)
}

/// What the first deletion of a definition adds to it: instances are to go before it does.
pub fn mark(definition: &mut Value, now: Timestamp) {
    let finalizers = list_mut(&mut definition["metadata"], "finalizers");
    if !finalizers.iter().any(|name| name == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    set_condition(&mut definition["status"], TERMINATING, "True", "InstanceDeletionPending", message, now);
}

/// Empties a definition and lets it go. `custom` is one of its versions, where any is served. What fails is said in the
/// status and tried again; with the server it ends.
pub async fn run(server: Weak<Inner>, name: String, custom: Option<Arc<Custom>>) {
    while let Err(error) = attempt(&server, &name, custom.as_deref()).await.filter_gone() {
        let Some(upgraded) = server.upgrade() else { return };
        tracing::warn!(definition = name, error = error.message(), "instances could not be removed; trying again");
        let why = format!("could not issue all deletes: {}", error.message());
        // Where not even that can be written, the next attempt fails as well and says so.
        let _ = say(&upgraded, &name, "True", "InstanceDeletionFailed", &why).await;
        drop(upgraded);
        tokio::time::sleep(LOOK_AGAIN.1).await;
    }
}

async fn attempt(server: &Weak<Inner>, name: &str, custom: Option<&Custom>) -> Result<(), ApiError> {
    match custom {
        Some(custom) => empty(server, name, custom).await?,
        None => say(&*alive(server)?, name, "False", "NeverEstablished", "resource was never established").await?,
    }
    release(&*alive(server)?, name).await
}

fn alive(server: &Weak<Inner>) -> Result<Arc<Inner>, ApiError> {
    server.upgrade().ok_or_else(|| ApiError::service_unavailable("the server is shutting down"))
}

trait FilterGone {
    fn filter_gone(self) -> Self;
}

impl FilterGone for Result<(), ApiError> {
    /// What is gone need not be deleted.
    fn filter_gone(self) -> Self {
        self.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
    }
}

async fn empty(server: &Weak<Inner>, name: &str, custom: &Custom) -> Result<(), ApiError> {
    custom.lifetime.close().await;
    let began = Instant::now();
    let mut wait = LOOK_AGAIN.0;
    let mut complained = false;
    {
        let server = alive(server)?;
        say(&server, name, "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress").await?;
    }
    loop {
        {
            let server = alive(server)?;
            server.caches.fresh().await?;
            let left = server.lookup.list(custom.stored, "");
            if left.is_empty() {
                return say(&server, name, "False", "InstanceDeletionCompleted", "removed all instances").await;
            }
            delete_all(&server, custom, left).await?;
            if !complained && began.elapsed() > PATIENCE {
                complained = true;
                let why = "could not confirm zero CustomResources remaining: timed out waiting for the condition";
                say(&server, name, "True", "InstanceDeletionCheck", why).await?;
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LOOK_AGAIN.1);
    }
}

async fn delete_all(server: &Inner, custom: &Custom, left: Vec<Arc<Stored>>) -> Result<(), ApiError> {
    let (user, options) = (server_itself(), WriteOptions { raw: json!({}), ..WriteOptions::default() });
    let (user, options) = (&user, &options);
    let waiting = left.into_iter().filter(|stored| stored.value()["metadata"]["deletionTimestamp"].is_null());
    let deletions = stream::iter(waiting).map(|stored| async move {
        let call = Call {
            resource: custom.resource,
            custom: Some(custom),
            namespace: stored.namespace(),
            name: stored.name(),
            subresource: "",
            user,
            options,
        };
        server.delete(call).await.map(|_| ()).filter_gone()
    });
    let outcomes: Vec<Result<(), ApiError>> = deletions.buffer_unordered(PARALLEL).collect().await;
    outcomes.into_iter().collect()
}

/// Writes the condition that says how far it has come.
async fn say(server: &Inner, name: &str, word: &str, reason: &str, message: &str) -> Result<(), ApiError> {
    let now = server.env.now();
    modify(server, "status", name, &mut |object| {
        if is_due(object) {
            set_condition(&mut object["status"], TERMINATING, word, reason, message, now);
        }
        Ok(())
    })
    .await
}

/// Takes the finalizer off; with that the server lets the definition go.
async fn release(server: &Inner, name: &str) -> Result<(), ApiError> {
    modify(server, "", name, &mut |object| {
        if is_due(object) {
            list_mut(&mut object["metadata"], "finalizers").retain(|name| name != FINALIZER);
        }
        Ok(())
    })
    .await
}

async fn modify(
    server: &Inner,
    part: &'static str,
    name: &str,
    change: &mut (dyn FnMut(&mut Value) -> Result<(), ApiError> + Send),
) -> Result<(), ApiError> {
    let resource: &'static Resource = builtin::custom_resource_definitions();
    server.lookup.modify(&server_itself(), resource, part, "", name, change).await.map(|_| ()).filter_gone()
}
