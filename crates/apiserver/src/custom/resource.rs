//! One version of a custom resource as it is served, and the rules of its objects on their way into the store.

use std::sync::Arc;

use knarr_api::{
    custom::{Definition, Version},
    field::FieldError,
    meta,
    registry::Resource,
    strategy::{Part, Strategy},
};
use serde_json::{Map, Value};
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio_util::sync::CancellationToken;

use super::intern;
use crate::webhook::Converter;

/// What all versions of a definition share, from when it is established until it is gone.
#[derive(Debug)]
pub struct Lifetime {
    /// False once instances may not be created any more. A creation holds the lock while it commits, so that whoever
    /// closes the gate has seen the last of them.
    open: RwLock<bool>,
}

impl Default for Lifetime {
    fn default() -> Self {
        Self { open: RwLock::new(true) }
    }
}

impl Lifetime {
    /// Leave to create an instance, for as long as it is held; `None` once the definition is being deleted.
    pub async fn enter(&self) -> Option<RwLockReadGuard<'_, bool>> {
        let open = self.open.read().await;
        (*open).then_some(open)
    }

    /// Ends creation, and waits for what is under way.
    pub async fn close(&self) {
        *self.open.write().await = false;
    }
}

/// One served version of a definition.
#[derive(Debug)]
pub struct Custom {
    pub resource: &'static Resource,
    /// The row of the version in which objects are stored.
    pub stored: &'static Resource,
    pub definition: Arc<Definition>,
    version: usize,
    pub lifetime: Arc<Lifetime>,
    /// Cancelled when another definition takes this one's place, or none does: watches end, and begin again with what
    /// is true then.
    pub replaced: CancellationToken,
    /// Who is asked where versions differ in more than their name. The rules then work on the version that a client
    /// speaks, and the object is converted right before it is stored.
    pub(crate) converter: Option<Arc<Converter>>,
}

impl Custom {
    /// All served versions of a definition.
    pub fn of(definition: &Arc<Definition>, lifetime: &Arc<Lifetime>) -> Vec<Arc<Self>> {
        let stored = intern::row(definition, definition.storage_version());
        let replaced = CancellationToken::new();
        let converter = Converter::of(definition).map(Arc::new);
        let served = definition.versions.iter().enumerate().filter(|(_, version)| version.served);
        let custom = served.map(|(at, version)| Self {
            resource: intern::row(definition, version),
            stored,
            definition: definition.clone(),
            version: at,
            lifetime: lifetime.clone(),
            replaced: replaced.clone(),
            converter: converter.clone(),
        });
        custom.map(Arc::new).collect()
    }

    pub fn version(&self) -> &Version {
        &self.definition.versions[self.version]
    }

    /// The place of a selectable field among the values of [`fields`].
    pub fn field(&self, name: &str) -> Option<usize> {
        let before = self.definition.versions[..self.version].iter().map(|version| version.selectable_fields.len());
        let own = self.version().selectable_fields.iter().position(|field| field == name)?;
        Some(before.sum::<usize>() + own)
    }

    /// The object as this version shows it: upstream prunes and defaults what it reads, too, since the schema may have
    /// changed since it was written.
    pub fn to_served(&self, object: &mut Value) {
        set_api_version(object, self.resource);
        self.version().prune(object);
        self.version().default(object);
    }

    /// Brings an object into the form that the rules work on: the stored version's, where only `apiVersion` differs
    /// between versions, and as it is where a webhook converts.
    pub fn to_stored(&self, object: &mut Value) {
        if self.converter.is_none() {
            set_api_version(object, self.stored);
        }
    }

    /// The row in whose form the rules work.
    pub fn ruled_as(&self) -> &'static Resource {
        if self.converter.is_none() { self.stored } else { self.resource }
    }

    /// True where the fields that selectors name are those of stored objects.
    pub fn reads_stored_fields(&self) -> bool {
        self.converter.is_none() || self.resource.version == self.stored.version
    }

    /// True where an object is in another version than the stored one, and differs in more than that.
    pub fn is_to_be_converted(&self, object: &Value) -> bool {
        self.converter.is_some() && object["apiVersion"] != *self.stored.api_version()
    }

    fn has_status(&self) -> bool {
        self.version().has_status
    }
}

/// What selectors ask of an object, for all versions of its definition one after the other: a path means the same in
/// each, since conversion changes no field.
pub fn fields<'a>(definition: &'a Definition, object: &'a Value) -> impl Iterator<Item = String> + 'a {
    definition.versions.iter().flat_map(|version| version.selectable(object))
}

/// True where [`fields`] of both are about the same.
pub fn same_fields(one: &Definition, other: &Definition) -> bool {
    let all = |definition: &Definition| -> Vec<String> {
        definition.versions.iter().flat_map(|version| version.selectable_fields.clone()).collect()
    };
    all(one) == all(other)
}

fn set_api_version(object: &mut Value, resource: &Resource) {
    if let Some(object) = object.as_object_mut() {
        object.insert("apiVersion".into(), resource.api_version().into());
    }
}

/// As upstream's strategy of custom resources: with the status subresource, `status` and the rest are written apart,
/// and everything but `metadata` (and that status) counts for the generation.
impl Strategy for Custom {
    fn default(&self, object: &mut Value) {
        self.version().default(object);
    }

    fn prepare_create(&self, object: &mut Value) {
        if self.has_status()
            && let Some(object) = object.as_object_mut()
        {
            object.remove("status");
        }
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("generation".into(), 1.into());
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, part: Part) {
        if part == Part::Subresource("status") {
            return take_status_only(new, old);
        }
        meta::prepare_update(new, old);
        if self.has_status() {
            keep(new, old, "status");
        }
        if self.changed(new, old) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            if let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.insert("generation".into(), generation.into());
            }
        }
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        self.version().validate(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value, _: Part) -> Vec<FieldError> {
        self.version().validate(new, Some(old))
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

impl Custom {
    fn changed(&self, new: &Value, old: &Value) -> bool {
        let empty = Map::new();
        let (new, old) = (new.as_object().unwrap_or(&empty), old.as_object().unwrap_or(&empty));
        let counts = |key: &str| match key {
            "apiVersion" | "kind" | "metadata" => false,
            "status" => !self.has_status(),
            _ => true,
        };
        let keys = new.keys().chain(old.keys().filter(|key| !new.contains_key(*key)));
        keys.filter(|key| counts(key)).any(|key| new.get(key) != old.get(key))
    }
}

/// A write of the status changes nothing else; who wrote it is kept with it.
fn take_status_only(new: &mut Value, old: &Value) {
    let status = new.get("status").cloned();
    let managed = new["metadata"].get("managedFields").cloned();
    let revision = new["metadata"].get("resourceVersion").cloned();
    *new = old.clone();
    let members = [("managedFields", managed), ("resourceVersion", revision)];
    if let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) {
        for (key, value) in members {
            put(metadata, key, value);
        }
    }
    if let Some(object) = new.as_object_mut() {
        put(object, "status", status);
    }
}

fn put(object: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    match value {
        Some(value) => object.insert(key.to_owned(), value),
        None => object.remove(key),
    };
}

fn keep(new: &mut Value, old: &Value, key: &str) {
    if let Some(new) = new.as_object_mut() {
        put(new, key, old.get(key).cloned());
    }
}
