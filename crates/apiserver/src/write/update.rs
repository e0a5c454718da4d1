//! Changes of an object that exists: PUT, PATCH and every subresource that has the object's shape.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use knarr_api::{
    field::{FieldError, FieldPath},
    meta,
    status::ApiError,
    strategy::Part,
};
use knarr_store::{Compare, KeyValue, Revision, TxnReply};
use serde_json::Value;

use super::{
    Call, Commit, Written,
    admit::{Admitted, Way},
    fields, metadata_mut, qualified_kind, text,
};
use crate::{
    cache::{Extract, at_revision},
    contract::{Operation, Stored},
    convert,
    matching::Form,
    server::Inner,
};

/// How often a write that lost against another is tried again.
const ATTEMPTS: usize = 64;

/// A wished-for object, how its `managedFields` were made, and which revision it is meant for.
pub struct Change {
    pub object: Value,
    pub tracking: fields::Tracking,
    pub basis: Basis,
}

/// What a changed object was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Whatever the client saw: a resourceVersion in the object must be the stored one.
    Client,
    /// The object as it is now; a newer one is reason to make the change again.
    Current,
}

impl Change {
    pub fn update(object: Value) -> Self {
        Self { object, tracking: fields::Tracking::Update, basis: Basis::Client }
    }

    pub fn of_current(object: Value) -> Self {
        Self { basis: Basis::Current, ..Self::update(object) }
    }
}

impl Inner {
    /// Reads, changes and writes until no other write comes between. `change` gets the object in the client's
    /// version (`None` where there is none) and may run again.
    pub async fn update(
        &self,
        call: Call<'_>,
        change: &mut (dyn FnMut(Option<&Value>) -> Result<Change, ApiError> + Send),
    ) -> Result<Written, ApiError> {
        let resource = call.stored_resource();
        let key = call.key();
        let mut current = self.current(resource, call.namespace, call.name).await?;
        for _ in 0..ATTEMPTS {
            let Some(stored) = current else {
                let Change { object, tracking, .. } = change(None)?;
                return self.create_as(call, object, tracking).await;
            };
            match self.update_once(&call, &key, &stored, change).await? {
                Ok(written) => return Ok(written),
                Err(newer) => current = newer.map(|kv| Arc::new(decoded(&call, &kv))),
            }
        }
        Err(ApiError::stale(&call.resource.qualified_name(), call.name))
    }

    /// One round; the inner error is the object that another writer left.
    async fn update_once(
        &self,
        call: &Call<'_>,
        key: &Bytes,
        stored: &Arc<Stored>,
        change: &mut (dyn FnMut(Option<&Value>) -> Result<Change, ApiError> + Send),
    ) -> Result<Result<Written, Option<KeyValue>>, ApiError> {
        let mut warnings = Vec::new();
        let kept = stored.value();
        let served = match (convert::is_served_as_stored(call.resource, call.custom), call.custom) {
            (true, _) => None,
            (false, Some(custom)) => {
                let converted = self.convert_one(custom, call.resource, kept.clone()).await?;
                Some(convert::value_to_served(call.resource, call.custom, converted))
            }
            (false, None) => Some(convert::value_to_served(call.resource, None, kept.clone())),
        };
        // The rules compare a custom resource with what its schema makes of the stored one, as upstream's do: a default
        // that is new is no change of the client's.
        let mut decoded_old = served.clone().filter(|_| call.custom.is_some());
        if let Some(old) = &mut decoded_old {
            convert::to_stored(call.resource, call.custom, old);
        }
        let old = decoded_old.as_ref().unwrap_or(&kept);
        let Change { mut object, tracking, basis } = change(Some(served.as_ref().unwrap_or(&kept)))?;
        let pinned = basis == Basis::Client && check_revision(call, &object, stored)?;
        convert::to_stored(call.resource, call.custom, &mut object);
        let object = match self.ready(call, object, old, tracking, &mut warnings).await {
            Ok(object) => object,
            Err(error) => return Err(error.warned(warnings)),
        };

        let object = match call.custom {
            // As in the rules, what is compared is what would be written.
            Some(custom) if custom.is_to_be_converted(&object) && !call.options.dry_run => {
                self.as_stored(custom, &object).await?
            }
            _ => object,
        };
        // What the store has in another version or without its defaults is written anew by any update.
        if object == kept {
            return Ok(Ok(Written { object: stored.clone(), status: StatusCode::OK, warnings, exists: true }));
        }
        let ends = ends_with(&object);
        if call.options.dry_run {
            let shown = Self::unstored(call, &object, Some(stored.resource_version));
            return Ok(Ok(Written { object: shown, status: StatusCode::OK, warnings, exists: !ends }));
        }
        let compare = Compare::ModRevision(key.clone(), Revision(stored.resource_version));
        let outcome = if ends {
            self.erase(call, key, compare, &kept, &object).await?
        } else {
            let encoded = self.encode(call, Some(&kept), &object).await?;
            drop((object, decoded_old, served, kept));
            self.put(call, key, compare, &encoded).await?
        };
        match outcome {
            Commit::Done(stored) => Ok(Ok(Written { object: stored, status: StatusCode::OK, warnings, exists: !ends })),
            Commit::Lost(_) if pinned => Err(ApiError::stale(&call.resource.qualified_name(), call.name)),
            Commit::Lost(current) | Commit::Outrun(current) => Ok(Err(current)),
        }
    }

    /// Defaults, rules and admission over a changed object.
    async fn ready(
        &self,
        call: &Call<'_>,
        mut object: Value,
        old: &Value,
        tracking: fields::Tracking,
        warnings: &mut Vec<String>,
    ) -> Result<Value, ApiError> {
        let resource = call.stored_resource();
        let strategy = call.rules();
        let part = if call.subresource.is_empty() { Part::Main } else { Part::Subresource(call.subresource) };
        check_identity(call, &mut object, old)?;
        strategy.default(&mut object);
        strategy.prepare_update(&mut object, old, part);
        fields::track(&mut object, Some(old), call, tracking, self.env.now());
        let way = Way { form: form_of(tracking), ..Way::PLAIN };
        let admitted = self.admit_mutating(call, way, Operation::Update, object, Some(old), warnings).await?;
        let Admitted { mut object, by_users } = admitted;
        if by_users || !self.plugins.admission.is_empty() {
            strategy.default(&mut object);
        }
        if by_users {
            // What nobody may change is not changed through others either.
            strategy.prepare_update(&mut object, old, part);
        }
        // The revision is compared in the transaction; it is no part of what changes.
        let revision = old["metadata"]["resourceVersion"].clone();
        metadata_mut(&mut object).insert("resourceVersion".into(), revision);
        // What changes nothing was told of when it was written. The rules are asked all the same: they may have become
        // stricter since, and some are about changes.
        if object != *old {
            warnings.extend(call.warnings(&object));
        }
        let mut errors = meta::validate_update(&object, old);
        errors.extend(strategy.validate_update(&object, old, part));
        if !errors.is_empty() {
            return Err(ApiError::invalid(&qualified_kind(resource), call.name, errors));
        }
        self.admit_validating(call, way, Operation::Update, object, Some(old), warnings).await
    }

    /// A change that takes the last thing away that a deletion waited for.
    async fn erase(
        &self,
        call: &Call<'_>,
        key: &Bytes,
        compare: Compare,
        old: &Value,
        object: &Value,
    ) -> Result<Commit, ApiError> {
        match self.take(call, key, compare, old).await? {
            TxnReply::Committed { revision } => Ok(Commit::Done(Self::unstored(call, object, Some(revision.0)))),
            TxnReply::Conflict { current, .. } => Ok(Commit::Lost(current.into_iter().next().flatten())),
        }
    }
}

/// As what a write is shown to webhooks.
fn form_of(tracking: fields::Tracking) -> Form {
    match tracking {
        fields::Tracking::Scale => Form::Scale,
        fields::Tracking::Update | fields::Tracking::Applied => Form::Own,
    }
}

/// What another writer left, as the cache would have it.
pub(super) fn decoded(call: &Call<'_>, kv: &KeyValue) -> Stored {
    let key = crate::cache::object_key(call.namespace, call.name);
    let definition = call.custom.map(|custom| &*custom.definition);
    Extract::parse(call.stored_resource(), definition, &kv.value).of_row(&key, kv)
}

/// True once an object that is being deleted has no finalizer and no grace left: the write that brings it there
/// deletes it.
pub(super) fn ends_with(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    !metadata["deletionTimestamp"].is_null()
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && empty(&metadata["finalizers"])
        && (!is_namespace(object) || empty(&object["spec"]["finalizers"]))
}

/// A custom kind may be called as the built-in one is.
pub(super) fn is_namespace(object: &Value) -> bool {
    object["kind"] == "Namespace" && object["apiVersion"] == "v1"
}

/// True where the client named a revision; an error where it is not the current one.
fn check_revision(call: &Call<'_>, object: &Value, stored: &Stored) -> Result<bool, ApiError> {
    let sent = text(object, "resourceVersion");
    if sent.is_empty() || sent == "0" {
        if !call.rules().allow_unconditional_update() {
            let path = FieldPath::new("metadata");
            let error = FieldError::invalid(&path.child("resourceVersion"), 0, "must be specified for an update");
            return Err(ApiError::invalid(&qualified_kind(call.resource), call.name, vec![error]));
        }
        return Ok(false);
    }
    let Ok(sent) = sent.parse::<u64>() else {
        let path = FieldPath::new("metadata");
        let error = FieldError::invalid(&path.child("resourceVersion"), sent, "must be an unsigned integer");
        return Err(ApiError::invalid(&qualified_kind(call.resource), call.name, vec![error]));
    };
    if sent != stored.resource_version {
        return Err(ApiError::stale(&call.resource.qualified_name(), call.name));
    }
    Ok(true)
}

/// Name, namespace and uid cannot change; what was left out is filled in.
fn check_identity(call: &Call<'_>, object: &mut Value, old: &Value) -> Result<(), ApiError> {
    let name = text(object, "name");
    if !name.is_empty() && name != call.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name
        )));
    }
    let namespace = text(object, "namespace");
    if call.resource.namespaced && !namespace.is_empty() && namespace != call.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let (uid, old_uid) = (text(object, "uid"), text(old, "uid"));
    if !uid.is_empty() && uid != old_uid {
        return Err(ApiError::conflict(
            &call.resource.qualified_name(),
            call.name,
            format_args!("Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}"),
        ));
    }
    let old_metadata = &old["metadata"];
    let metadata = metadata_mut(object);
    for key in ["name", "namespace", "uid", "creationTimestamp"] {
        if metadata.get(key).is_none_or(|value| value.is_null() || value == "")
            && let Some(value) = old_metadata.get(key)
        {
            metadata.insert(key.into(), value.clone());
        }
    }
    Ok(())
}

/// The object of a deletion, under the deletion's revision.
pub(super) fn last_state(stored: &Stored, revision: u64) -> Arc<Stored> {
    Arc::new(at_revision(stored, revision))
}
