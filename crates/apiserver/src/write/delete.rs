//! Deletion: preconditions, grace, finalizers, and only then the key goes.
//! (<https://kubernetes.io/docs/concepts/architecture/garbage-collection/>)

use std::sync::Arc;

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use knarr_api::{
    field::{FieldError, FieldPath},
    status::ApiError,
    strategy::Dependents,
    time,
};
use knarr_store::{Compare, KeyValue, Revision, TxnReply};
use serde_json::{Value, json};

use super::{
    Call, Commit, Written,
    admit::Way,
    metadata_mut, qualified_kind, text,
    update::{decoded, ends_with, is_namespace, last_state},
};
use crate::{
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
        let path = FieldPath::new("propagationPolicy");
        let mut errors = Vec::new();
        let (policy, orphan) = (options["propagationPolicy"].as_str(), options["orphanDependents"].as_bool());
        if let (Some(policy), Some(_)) = (policy, orphan) {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&path, policy, why));
        }
        let propagation = match (policy, orphan) {
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (None, None) => None,
            (Some(other), _) => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported(&path, other, &known));
                None
            }
        };
        if !errors.is_empty() {
            return Err(ApiError::invalid("DeleteOptions.meta.k8s.io", "", errors));
        }
        let of = |key: &str| options["preconditions"][key].as_str().map(str::to_owned);
        Ok(Self {
            // Upstream takes what is below zero for one second.
            grace_seconds: options["gracePeriodSeconds"].as_i64().map(|seconds| if seconds < 0 { 1 } else { seconds }),
            uid: of("uid"),
            resource_version: of("resourceVersion"),
            propagation,
        })
    }
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
        let (way, operation) = (Way::PLAIN, Operation::Delete);
        let admitted = async {
            self.admit_mutating(call, way, operation, Value::Null, Some(&old), &mut warnings).await?;
            self.admit_validating(call, way, operation, Value::Null, Some(&old), &mut warnings).await
        };
        if let Err(error) = admitted.await {
            return Err(error.warned(warnings));
        }
        let grace = call.rules().deletion_grace(&old, options.grace_seconds);
        let done = |object, exists| Written { object, status: StatusCode::OK, warnings, exists };
        let key = call.key();
        let compare = Compare::ModRevision(key.clone(), Revision(stored.resource_version));
        match plan(&old, options, grace, call.rules().dependents(), self.env.now()) {
            Plan::Keep => Ok(Ok(done(stored.clone(), true))),
            Plan::Write(object) if call.options.dry_run => {
                Ok(Ok(done(Self::unstored(call, &object, Some(stored.resource_version)), true)))
            }
            Plan::Erase if call.options.dry_run => Ok(Ok(done(stored.clone(), false))),
            Plan::Write(object) => {
                let encoded = self.encode(call, Some(&old), &object).await?;
                drop((object, old));
                Ok(match self.put(call, &key, compare, &encoded).await? {
                    Commit::Done(stored) => Ok(done(stored, true)),
                    Commit::Lost(current) | Commit::Outrun(current) => Err(current),
                })
            }
            Plan::Erase => Ok(match self.take(call, &key, compare, &old).await? {
                TxnReply::Committed { revision } => Ok(done(last_state(stored, revision.0), false)),
                TxnReply::Conflict { current, .. } => Err(current.into_iter().next().flatten()),
            }),
        }
    }
}

fn check_preconditions(call: &Call<'_>, options: &DeleteOptions, old: &Value) -> Result<(), ApiError> {
    let rows = [
        ("UID", &options.uid, "uid", "The object might have been deleted and then recreated"),
        ("ResourceVersion", &options.resource_version, "resourceVersion", "The object might have been modified"),
    ];
    for (label, wanted, key, guess) in rows {
        if let Some(wanted) = wanted
            && wanted != text(old, key)
        {
            let why = format!(
                "the {label} in the precondition ({wanted}) does not match the {label} in record ({}). {guess}",
                text(old, key)
            );
            // Upstream names the kind here, not the resource.
            return Err(ApiError::conflict(&qualified_kind(call.resource), call.name, why));
        }
    }
    Ok(())
}

fn plan(old: &Value, options: &DeleteOptions, grace: Option<i64>, dependents: Dependents, now: Timestamp) -> Plan {
    let mut object = old.clone();
    let deleting = !old["metadata"]["deletionTimestamp"].is_null();
    let running = old["metadata"]["deletionGracePeriodSeconds"].as_i64().filter(|_| deleting).unwrap_or(0);
    // Until its time is up, a deletion that runs can be made shorter and is otherwise left as it is.
    if running > 0 && options.grace_seconds.is_none_or(|asked| asked >= running) {
        return Plan::Keep;
    }
    let mut finalizers_changed = set_finalizers(&mut object, propagation(old, options, dependents));
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

/// What the client asked for counts first, then what the object says already, and at last the resource's own way.
fn propagation(old: &Value, options: &DeleteOptions, dependents: Dependents) -> Option<Propagation> {
    let finalizers = old["metadata"]["finalizers"].as_array();
    let decided = finalizers.into_iter().flatten().any(|name| name == ORPHAN || name == FOREGROUND);
    match (dependents, options.propagation) {
        (Dependents::Never, _) => Some(Propagation::Background),
        (_, Some(asked)) => Some(asked),
        (Dependents::Orphaned, None) if !decided => Some(Propagation::Orphan),
        (_, None) => None,
    }
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
