//! Creation: identity is given, the rules are asked, and the key must be free.

use std::sync::Arc;

use http::StatusCode;
use knarr_api::{meta, status::ApiError, time};
use knarr_store::Compare;
use serde_json::Value;

use super::{
    Call, Commit, Written, addresses,
    admit::{Admitted, Way},
    fields, metadata_mut, qualified_kind, text, twins,
};
use crate::{
    cache::store_key,
    contract::{Operation, Stored},
    convert, custom,
    server::Inner,
};

/// How often a generated name that is taken is replaced, as upstream does.
const NAME_ATTEMPTS: usize = 8;
/// How often a Service whose address or port was taken by somebody else in the last moment is given another.
const ADDRESS_ATTEMPTS: usize = 8;

/// What came of trying to write a new object.
enum Insertion {
    Done(Arc<Stored>),
    /// The generated name is; with the object, for another one.
    NameTaken(Value),
    AddressTaken,
}

impl Inner {
    /// Creates an object that was decoded and has its type set.
    pub async fn create(&self, call: Call<'_>, object: Value) -> Result<Written, ApiError> {
        self.create_as(call, object, fields::Tracking::Update).await
    }

    pub(super) async fn create_as(
        &self,
        call: Call<'_>,
        object: Value,
        tracking: fields::Tracking,
    ) -> Result<Written, ApiError> {
        let sent = addresses::belong_to(call.resource).then(|| object.clone());
        let mut warnings = Vec::new();
        let mut made = self.make(call, object, tracking, &mut warnings).await;
        for _ in 1..ADDRESS_ATTEMPTS {
            let (Ok(None), Some(sent)) = (&made, &sent) else { break };
            warnings.clear();
            made = self.make(call, sent.clone(), tracking, &mut warnings).await;
        }
        match made {
            Ok(Some(stored)) => Ok(Written { object: stored, status: StatusCode::CREATED, warnings, exists: true }),
            Ok(None) => {
                let why = "failed to allocate a serviceIP: provided IP is already allocated";
                Err(ApiError::internal(why).warned(warnings))
            }
            Err(error) => Err(error.warned(warnings)),
        }
    }

    /// `None` where all has to be decided again, since somebody else has taken an address or a port that was picked.
    async fn make(
        &self,
        call: Call<'_>,
        mut object: Value,
        tracking: fields::Tracking,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Arc<Stored>>, ApiError> {
        let resource = call.stored_resource();
        let strategy = call.rules();
        check_target(&call, &mut object)?;
        convert::to_stored(call.resource, call.custom, &mut object);
        self.give_identity(&call, &mut object);
        let generated = text(&object, "name").is_empty() && !text(&object, "generateName").is_empty();
        if generated {
            self.generate_name(&mut object);
        }
        strategy.default(&mut object);
        // What the rules put in afterwards (finalizers, a Job's selector) belongs to nobody.
        fields::track(&mut object, None, &call, tracking, self.env.now());
        strategy.prepare_create(&mut object);
        let named = text(&object, "name").to_owned();
        let call = Call { name: &named, ..call };
        let way = Way { is_name_generated: generated, ..Way::PLAIN };
        let admitted = self.admit_mutating(&call, way, Operation::Create, object, None, warnings).await?;
        let Admitted { mut object, by_users } = admitted;
        if by_users || !self.plugins.admission.is_empty() {
            strategy.default(&mut object);
        }
        if by_users {
            // What nobody may set is not set through others either.
            strategy.prepare_create(&mut object);
        }
        for attempt in 1.. {
            if attempt > 1 {
                // The rules may have put the name that was taken into the object: a Job's labels carry it.
                self.generate_name(&mut object);
                strategy.default(&mut object);
                strategy.prepare_create(&mut object);
            }
            if attempt == 1 {
                warnings.extend(call.warnings(&object));
            }
            let mut errors = meta::validate_create(&object, resource.namespaced, strategy.name_rule());
            errors.extend(strategy.validate_create(&object));
            if !errors.is_empty() {
                return Err(ApiError::invalid(&qualified_kind(resource), text(&object, "name"), errors));
            }
            let name = text(&object, "name").to_owned();
            let call = Call { name: &name, ..call };
            object = self.admit_validating(&call, way, Operation::Create, object, None, warnings).await?;
            object = match self.insert(&call, object, generated).await? {
                Insertion::Done(stored) => return Ok(Some(stored)),
                Insertion::AddressTaken => return Ok(None),
                Insertion::NameTaken(_) if attempt == NAME_ATTEMPTS => {
                    return Err(ApiError::generate_name_conflict(&call.resource.qualified_name(), &name));
                }
                Insertion::NameTaken(object) => object,
            };
        }
        unreachable!("the attempts above end in an answer")
    }

    async fn insert(&self, call: &Call<'_>, object: Value, generated: bool) -> Result<Insertion, ApiError> {
        let resource = call.stored_resource();
        if call.options.dry_run {
            return match self.current(resource, call.namespace, call.name).await? {
                Some(_) => name_taken(call, generated, || object),
                None => Ok(Insertion::Done(Self::unstored(call, &object, None))),
            };
        }
        // A webhook may take its time: it is asked before anybody has to wait for this creation.
        let encoded = self.encode(call, None, &object).await?;
        twins::keep(&object, &encoded);
        let converted = call.custom.is_some_and(|custom| custom.is_to_be_converted(&object));
        let object = converted.then_some(object);
        // Held until the object is in the store, so that a definition's cleanup misses no instance.
        let _leave = match call.custom {
            Some(custom) => Some(custom.lifetime.enter().await.ok_or_else(custom::terminating)?),
            None => None,
        };
        let key = store_key(resource, call.namespace, call.name);
        match self.put(call, &key, Compare::Absent(key.clone()), &encoded).await? {
            Commit::Done(stored) => Ok(Insertion::Done(stored)),
            Commit::Lost(_) => name_taken(call, generated, || object.unwrap_or_else(|| encoded.decode())),
            Commit::Outrun(_) => Ok(Insertion::AddressTaken),
        }
    }

    fn generate_name(&self, object: &mut Value) {
        let name = meta::generate_name(text(object, "generateName"), self.env.random());
        metadata_mut(object).insert("name".into(), name.into());
    }

    fn give_identity(&self, call: &Call<'_>, object: &mut Value) {
        let uid = self.env.uid().to_string();
        let now = time::seconds(self.env.now());
        let metadata = metadata_mut(object);
        for key in ["resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"] {
            metadata.remove(key);
        }
        metadata.insert("uid".into(), uid.into());
        metadata.insert("creationTimestamp".into(), now.into());
        if call.resource.namespaced {
            metadata.insert("namespace".into(), call.namespace.into());
        }
    }
}

/// A generated name is replaced, for which the object is needed; a client's own is not.
fn name_taken(call: &Call<'_>, generated: bool, object: impl FnOnce() -> Value) -> Result<Insertion, ApiError> {
    match generated {
        true => Ok(Insertion::NameTaken(object())),
        false => Err(ApiError::already_exists(&call.resource.qualified_name(), call.name)),
    }
}

/// The object must be meant for the place it was sent to.
fn check_target(call: &Call<'_>, object: &mut Value) -> Result<(), ApiError> {
    let namespace = text(object, "namespace");
    if call.resource.namespaced {
        if !namespace.is_empty() && namespace != call.namespace {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    } else if namespace.is_empty() {
        metadata_mut(object).remove("namespace");
    }
    let revision = text(object, "resourceVersion");
    if !revision.is_empty() && revision != "0" {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    Ok(())
}
