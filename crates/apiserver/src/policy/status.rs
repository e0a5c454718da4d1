//! What is odd about a validating policy, in its status: its expressions are checked against the types of what it is for,
//! once for each of its generations. It is done here since the types are those that this server serves now.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use knarr_api::{
    policy::{Kinds, object_type, warnings},
    schema,
    status::ApiError,
};
use knarr_cel::Type;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    authn::controller,
    builtin,
    cache::{Start, Topic, Watcher},
    contract::Lookup,
    custom::Catalogue,
    json::name,
    server::Inner,
};

/// Upstream's name for whoever does this.
const NAME: &str = "validatingadmissionpolicy-status-controller";
/// How long is waited after a round that failed, and how often everything is looked at anyway.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Follows the policies in a task of its own.
pub fn start(server: &Arc<Inner>) {
    let policies = server.caches.of(builtin::validating_admission_policies());
    let start = Start::Now { snapshot: false };
    // There is a cache of every built-in that can be watched, and a start from now on cannot be too old.
    let Some(Ok(watcher)) = policies.map(|cache| cache.watch(start, Topic::Everything, |_| true)) else { return };
    tokio::spawn(run(Arc::downgrade(server), watcher, server.shutdown.clone()));
}

async fn run(server: Weak<Inner>, mut watcher: Watcher, shutdown: CancellationToken) {
    loop {
        let patience = {
            let Some(server) = server.upgrade() else { return };
            match round(&server).await {
                Ok(()) => LOOK_AGAIN,
                Err(error) => {
                    tracing::warn!(error = error.message(), "the status of a policy could not be written");
                    RETRY_AFTER
                }
            }
        };
        tokio::select! {
            woken = watcher.wait() => if !woken { return },
            () = tokio::time::sleep(patience) => {}
            () = shutdown.cancelled() => return,
        }
        watcher.skip();
    }
}

async fn round(server: &Arc<Inner>) -> Result<(), ApiError> {
    let resource = builtin::validating_admission_policies();
    for stored in server.lookup.list(resource, "") {
        let policy = stored.value();
        let generation = policy["metadata"]["generation"].as_i64().unwrap_or(0);
        if policy["status"]["observedGeneration"].as_i64().unwrap_or(0) >= generation {
            continue;
        }
        let found = warnings(&policy, &Served(&server.catalogue));
        let checked = if found.is_empty() { json!({}) } else { json!({"expressionWarnings": found}) };
        let uid = &policy["metadata"]["uid"];
        let mut change = |object: &mut Value| {
            // What was changed meanwhile is looked at in the next round.
            if object["metadata"]["uid"] == *uid && object["metadata"]["generation"] == generation {
                object["status"]["observedGeneration"] = generation.into();
                object["status"]["typeChecking"] = checked.clone();
            }
            Ok(())
        };
        let written = server.lookup.modify(&controller(NAME), resource, "status", "", name(&policy), &mut change).await;
        match written {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The kinds that are served now.
struct Served<'c>(&'c Catalogue);

impl Kinds for Served<'_> {
    fn kind(&self, group: &str, version: &str, resource: &str) -> Option<String> {
        self.0.find(group, version, resource).map(|found| found.resource.kind.to_owned())
    }

    fn object(&self, group: &str, version: &str, kind: &str) -> Option<Type> {
        let now = self.0.now();
        let resource = now.rows().find(|row| (row.group, row.version, row.kind) == (group, version, kind))?;
        match self.0.custom(resource) {
            Some(custom) => custom.version().schema().map(|schema| object_type(schema, kind)),
            None => schema::of(group, version, kind).map(|schema| object_type(schema, kind)),
        }
    }
}
