use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bytes::Bytes;
use knarr_api::{
    custom::Definition,
    protobuf::{Encoder, ProtobufError},
    registry::Resource,
    status::ApiError,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Operation, UserInfo};

/// An object as it is served, at one revision: its JSON, resourceVersion included, and what selectors ask about.
#[derive(Debug)]
pub struct Stored {
    /// `namespace/name`, or the name alone where the resource has no namespaces.
    pub key: Box<str>,
    pub json: Bytes,
    /// The line of a watch that `json` is a part of; empty where it was made for itself.
    pub line: Bytes,
    pub resource_version: u64,
    pub labels: Labels,
    /// The values of the resource's selectable fields, in the order of `Strategy::selectable_fields`.
    pub fields: Fields,
    pub message: KeptMessage,
    pub shown: KeptForm,
}

/// A custom resource in a version of its definition; made for the first who asks for it and kept for others.
#[derive(Debug, Default)]
pub struct KeptForm(ArcSwapOption<CustomForm>);

#[derive(Debug)]
struct CustomForm {
    /// Weak, so that an object that nobody writes holds no definition that is long replaced.
    definition: Weak<Definition>,
    version: &'static str,
    /// `None` where the object is shown as it is stored.
    object: Option<Arc<Stored>>,
}

impl KeptForm {
    /// The object in a version of a definition, where that is what was last asked for.
    pub fn get(&self, definition: &Arc<Definition>, version: &str) -> Option<Option<Arc<Stored>>> {
        let form = self.0.load();
        let form = form.as_ref().filter(|form| form.definition.as_ptr() == Arc::as_ptr(definition))?;
        (form.version == version).then(|| form.object.clone())
    }

    pub fn keep(&self, definition: &Arc<Definition>, version: &'static str, object: Option<Arc<Stored>>) {
        let definition = Arc::downgrade(definition);
        self.0.store(Some(Arc::new(CustomForm { definition, version, object })));
    }
}

/// The object in protobuf, without an envelope; made for the first who asks for it and kept for others.
#[derive(Debug, Default)]
pub struct KeptMessage(OnceLock<Box<[u8]>>);

impl KeptMessage {
    /// 0 until somebody asks for the message.
    pub fn size_bytes(&self) -> usize {
        self.0.get().map_or(0, |message| message.len())
    }
}

/// Sorted by key.
pub type Labels = Arc<[(Box<str>, Box<str>)]>;
pub type Fields = Arc<[Box<str>]>;

impl Stored {
    /// Parses the object; stored bytes are valid JSON by construction.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or(Value::Null)
    }

    /// The part of the object that a caller wants, or what stands for nothing.
    pub fn read<T: DeserializeOwned + Default>(&self) -> T {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }

    /// The object's message; the encoder is that of the kind in its JSON.
    pub fn message(&self, encoder: Encoder) -> Result<&[u8], ProtobufError> {
        if let Some(made) = self.message.0.get() {
            return Ok(made);
        }
        let made = encoder.message(&self.json)?.into_boxed_slice();
        Ok(self.message.0.get_or_init(|| made))
    }

    /// Empty where the resource has no namespaces.
    pub fn namespace(&self) -> &str {
        self.key.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.key.split_once('/').map_or(&self.key, |(_, name)| name)
    }
}

/// Changes an object in place; it may be called again with the object that another writer left.
pub type ChangeFn<'a> = dyn FnMut(&mut Value) -> Result<(), ApiError> + Send + 'a;

/// A request to a subresource that has to pass admission without being a write of its resource.
#[derive(Debug)]
pub struct Ask<'a> {
    pub user: &'a UserInfo,
    pub operation: Operation,
    pub resource: &'static Resource,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub dry_run: bool,
}

/// What authorisers, admission and subresources may ask of the server they are part of: reads from the watch
/// cache, and writes that take the whole generic path under a user's name.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// From the watch cache, without waiting: as new as the last event applied.
    fn get(&self, resource: &'static Resource, namespace: &str, name: &str) -> Option<Arc<Stored>>;
    /// From the watch cache; an empty namespace means all.
    fn list(&self, resource: &'static Resource, namespace: &str) -> Vec<Arc<Stored>>;
    /// From the watch cache: the pods of all namespaces that are bound to a node.
    fn pods_of(&self, node: &str) -> Vec<Arc<Stored>>;
    /// Changes with every event of the resource, so that what is derived from a list can be kept.
    fn generation(&self, resource: &'static Resource) -> u64;
    /// As new as the last acknowledged write.
    async fn get_fresh(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Stored>>, ApiError>;

    /// Asks webhooks and policies about what was sent to a subresource, and answers with what they made of it.
    async fn admit(&self, ask: Ask<'_>, object: Value) -> Result<Value, ApiError>;

    async fn create(&self, user: &UserInfo, resource: &'static Resource, object: Value) -> Result<Value, ApiError>;
    /// Reads, changes and writes until no other write comes between (bounded); `change` may be run again.
    async fn modify(
        &self,
        user: &UserInfo,
        resource: &'static Resource,
        subresource: &'static str,
        namespace: &str,
        name: &str,
        change: &mut ChangeFn<'_>,
    ) -> Result<Arc<Stored>, ApiError>;
    async fn delete(
        &self,
        user: &UserInfo,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        options: Value,
    ) -> Result<Value, ApiError>;
}
