//! Deletion: preconditions, grace, finalizers, and only then the key goes.
//! (<https://kubernetes.io/docs/concepts/architecture/garbage-collection/>)

use std::sync::Arc;

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use knarr_api::{status::ApiError, time};
use knarr_store::{Compare, KeyValue, Op, Revision, Txn, TxnReply};
use serde_json::{Value, json};

use super::{
    Call, Commit, Written, metadata_mut, text,
    update::{decoded, ends_with, is_namespace, last_state},
};
use crate::{
    cache::store_error,
    contract::{Operation, Stored},
    custom::cleanup,
    server::Inner,
};

const ATTEMPTS: usize = 64;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// DeleteOptions, read and checked.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub grace_seconds: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub propagation: Option<Propagation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

impl DeleteOptions {
    pub fn parse(options: &Value) -> Result<Self, ApiError> {
        let propagation = match (options["propagationPolicy"].as_str(), options["orphanDependents"].as_bool()) {
            (Some(_), Some(_)) => {
                return Err(invalid_options(
                    "propagationPolicy: Invalid value: orphanDependents and deletionPropagation cannot be both set",
                ));
            }
            (Some("Orphan"), None) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some("Background"), None) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), None) => Some(Propagation::Foreground),
            (None, None) | (Some(""), None) => None,
            (Some(other), None) => {
                return Err(invalid_options(&format!(
                    "propagationPolicy: Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
                )));
            }
        };
        let of = |key: &str| options["preconditions"][key].as_str().map(str::to_owned);
        Ok(Self {
            grace_seconds: options["gracePeriodSeconds"].as_i64(),
            uid: of("uid"),
            resource_version: of("resourceVersion"),
            propagation,
        })
    }
}

fn invalid_options(why: &str) -> ApiError {
    ApiError::new(knarr_api::status::Reason::Invalid, format!("DeleteOptions.meta.k8s.io \"\" is invalid: {why}"))
}

/// What a round of deletion is to do with the object.
enum Plan {
    /// Nothing: it is on its way already.
    Keep,
    Write(Value),
    Erase,
}

impl Inner {
    /// Deletes an object, or starts its deletion.
    pub async fn delete(&self, call: Call<'_>) -> Result<Written, ApiError> {
        let options = DeleteOptions::parse(&call.options.raw)?;
        let mut current = self.current(call.resource, call.namespace, call.name).await?;
        for _ in 0..ATTEMPTS {
            let Some(stored) = current else {
                return Err(ApiError::not_found(&call.resource.qualified_name(), call.name));
            };
            match self.delete_once(&call, &options, &stored).await? {
                Ok(written) => return Ok(written),
                Err(newer) => current = newer.map(|kv| Arc::new(decoded(&call, &kv))),
            }
        }
        Err(ApiError::stale(&call.resource.qualified_name(), call.name))
    }

    async fn delete_once(
        &self,
        call: &Call<'_>,
        options: &DeleteOptions,
        stored: &Arc<Stored>,
    ) -> Result<Result<Written, Option<KeyValue>>, ApiError> {
        let old = stored.value();
        check_preconditions(call, options, &old)?;
        let mut warnings = Vec::new();
        self.admit_mutating(call, Operation::Delete, Value::Null, Some(&old), &mut warnings).await?;
        self.admit_validating(call, Operation::Delete, Value::Null, Some(&old)).await?;
        let grace = call.rules().deletion_grace(&old, options.grace_seconds);
        let done = |object, exists| Written { object, status: StatusCode::OK, warnings: Vec::new(), exists };
        let key = call.key();
        let compare = Compare::ModRevision(key.clone(), Revision(stored.resource_version));
        match plan(&old, options, grace, self.env.now()) {
            Plan::Keep => Ok(Ok(done(stored.clone(), true))),
            Plan::Write(object) if call.options.dry_run => {
                Ok(Ok(done(Self::unstored(call, &object, Some(stored.resource_version)), true)))
            }
            Plan::Erase if call.options.dry_run => Ok(Ok(done(stored.clone(), false))),
            Plan::Write(object) => Ok(match self.put(call, &key, compare, &object).await? {
                Commit::Done(stored) => Ok(done(stored, true)),
                Commit::Lost(newer) => Err(newer),
            }),
            Plan::Erase => {
                let txn = Txn { compares: vec![compare], ops: vec![Op::Delete { key }] };
                Ok(match self.store.txn(txn).await.map_err(|error| store_error(&error))? {
                    TxnReply::Committed { revision } => Ok(done(last_state(stored, revision.0), false)),
                    TxnReply::Conflict { current, .. } => Err(current.into_iter().next().flatten()),
                })
            }
        }
    }
}

fn check_preconditions(call: &Call<'_>, options: &DeleteOptions, old: &Value) -> Result<(), ApiError> {
    let rows = [("UID", &options.uid, "uid"), ("ResourceVersion", &options.resource_version, "resourceVersion")];
    for (label, wanted, key) in rows {
        if let Some(wanted) = wanted
            && wanted != text(old, key)
        {
            let actual = text(old, key);
            let why =
                format!("Precondition failed: {label} in precondition: {wanted}, {label} in object meta: {actual}");
            return Err(ApiError::conflict(&call.resource.qualified_name(), call.name, why));
        }
    }
    Ok(())
}

fn plan(old: &Value, options: &DeleteOptions, grace: Option<i64>, now: Timestamp) -> Plan {
    let mut object = old.clone();
    let mut finalizers_changed = set_finalizers(&mut object, options.propagation);
    let deleting = !old["metadata"]["deletionTimestamp"].is_null();
    if !deleting && is_definition(&object) {
        cleanup::mark(&mut object, now);
        finalizers_changed = true;
    }
    let marked = match (deleting, grace) {
        (false, Some(seconds)) if seconds > 0 => mark(&mut object, now, seconds),
        (false, _) if holds(&object) => mark(&mut object, now, 0),
        (false, _) => return Plan::Erase,
        (true, grace) => shorten(&mut object, grace),
    };
    if ends_with(&object) {
        return Plan::Erase;
    }
    if marked || finalizers_changed { Plan::Write(object) } else { Plan::Keep }
}

/// True where something must happen before the object may go.
fn holds(object: &Value) -> bool {
    let some = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    some(&object["metadata"]["finalizers"]) || (is_namespace(object) && some(&object["spec"]["finalizers"]))
}

fn is_definition(object: &Value) -> bool {
    object["kind"] == "CustomResourceDefinition" && object["apiVersion"] == "apiextensions.k8s.io/v1"
}

fn mark(object: &mut Value, now: Timestamp, grace_seconds: i64) -> bool {
    let ends = now.checked_add(SignedDuration::from_secs(grace_seconds)).unwrap_or(now);
    if is_namespace(object) {
        object["status"]["phase"] = "Terminating".into();
    }
    let metadata = metadata_mut(object);
    metadata.insert("deletionTimestamp".into(), time::seconds(ends).into());
    metadata.insert("deletionGracePeriodSeconds".into(), grace_seconds.into());
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64).filter(|generation| *generation > 0) {
        metadata.insert("generation".into(), (generation + 1).into());
    }
    true
}

/// A deletion that runs already may be made shorter, never longer.
fn shorten(object: &mut Value, grace: Option<i64>) -> bool {
    let metadata = metadata_mut(object);
    let (Some(asked), Some(running)) = (grace, metadata.get("deletionGracePeriodSeconds").and_then(Value::as_i64))
    else {
        return false;
    };
    if asked >= running {
        return false;
    }
    let ends = metadata.get("deletionTimestamp").and_then(Value::as_str).and_then(time::parse);
    if let Some(ends) = ends.and_then(|ends| ends.checked_sub(SignedDuration::from_secs(running - asked)).ok()) {
        metadata.insert("deletionTimestamp".into(), time::seconds(ends).into());
    }
    metadata.insert("deletionGracePeriodSeconds".into(), asked.into());
    true
}

/// The policy becomes a finalizer that the garbage collector works off.
fn set_finalizers(object: &mut Value, propagation: Option<Propagation>) -> bool {
    let Some(propagation) = propagation else { return false };
    let metadata = metadata_mut(object);
    let before = metadata.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut after: Vec<Value> = before.iter().filter(|name| *name != ORPHAN && *name != FOREGROUND).cloned().collect();
    match propagation {
        Propagation::Orphan => after.push(json!(ORPHAN)),
        Propagation::Foreground => after.push(json!(FOREGROUND)),
        Propagation::Background => {}
    }
    if after == before {
        return false;
    }
    if after.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), after.into());
    }
    true
}
