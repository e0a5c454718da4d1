//! The write path that every object takes: defaults, rules, admission, one transaction, an answer.
//!
//! All CPU work happens outside any lock; two writers of one object meet only in the store, where the loser's
//! transaction fails with the object as it is now and the work is done again on that.

mod addresses;
mod admit;
mod create;
mod delete;
mod event_lease;
mod fields;
mod node_ports;
mod twins;
mod update;

use std::{borrow::Cow, iter, sync::Arc};

use bytes::Bytes;
use http::StatusCode;
use knarr_api::{
    registry::Resource,
    status::ApiError,
    strategy::{self, Strategy},
};
use knarr_store::{Compare, KeyValue, Op, Revision, Txn, TxnReply};
use serde_json::{Map, Value};

pub(crate) use admit::Turns;
pub use event_lease::EventLeases;
pub use fields::{Tracking, writer};
pub(crate) use twins::{Twins, note};
pub use update::{Basis, Change};

use crate::{
    cache::{self, Extract, object_key, splice, store_error, store_key},
    contract::{KeptForm, KeptMessage, Stored, UserInfo},
    convert,
    custom::Custom,
    server::Inner,
};

/// What becomes of unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// CreateOptions, UpdateOptions and PatchOptions in one.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub validation: Validation,
    /// Who is written down in `managedFields`.
    pub manager: String,
    /// The options as admission sees them.
    pub raw: Value,
}

/// Who writes what, and how.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The version that the client speaks.
    pub resource: &'static Resource,
    /// What is known of a custom resource beside its row.
    pub custom: Option<&'a Custom>,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Empty for the object itself.
    pub subresource: &'static str,
    pub user: &'a UserInfo,
    pub options: &'a WriteOptions,
}

/// What came of it.
#[derive(Debug)]
pub struct Written {
    pub object: Arc<Stored>,
    pub status: StatusCode,
    pub warnings: Vec<String>,
    /// False where the object is gone after the write.
    pub exists: bool,
}

pub(crate) fn rules(resource: &Resource) -> &'static dyn Strategy {
    strategy::of(resource)
}

/// How resources are named in `Invalid`: `Deployment.apps`.
fn qualified_kind(resource: &Resource) -> String {
    if resource.group.is_empty() { resource.kind.to_owned() } else { format!("{}.{}", resource.kind, resource.group) }
}

pub(crate) fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    let Value::Object(members) = object else {
        // Only objects get here; the decoder refuses everything else.
        *object = Value::Object(Map::new());
        return metadata_mut(object);
    };
    let metadata = members.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    match metadata {
        Value::Object(metadata) => metadata,
        _ => unreachable!("metadata was made an object above"),
    }
}

pub(crate) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"][key].as_str().unwrap_or_default()
}

impl<'a> Call<'a> {
    /// The row of the version in which objects are stored.
    fn stored_resource(&self) -> &'static Resource {
        self.custom.map_or_else(|| self.resource.stored_as(), |custom| custom.stored)
    }

    /// The row in whose form the rules and admission work.
    fn ruled_as(&self) -> &'static Resource {
        self.custom.map_or_else(|| self.resource.stored_as(), Custom::ruled_as)
    }

    pub(crate) fn rules(&self) -> &'a dyn Strategy {
        match self.custom {
            Some(custom) => custom,
            None => rules(self.stored_resource()),
        }
    }

    /// What whoever writes the object is to hear, though it is let in.
    fn warnings(&self, object: &Value) -> Vec<String> {
        let mut warnings = self.rules().warnings(object);
        if self.custom.is_none() {
            warnings.extend(strategy::unfollowed(self.resource).map(str::to_owned));
        }
        warnings
    }

    fn extract(&self, object: &Value) -> Extract {
        Extract::of(self.stored_resource(), self.custom.map(|custom| &*custom.definition), object)
    }

    fn key(&self) -> Bytes {
        store_key(self.resource, self.namespace, self.name)
    }
}

/// One committed or refused transaction on one key.
enum Commit {
    Done(Arc<Stored>),
    /// Somebody else was first: the object as it is now.
    Lost(Option<KeyValue>),
    /// The object, which is as it was expected, was to get an address or a port that somebody else has taken.
    Outrun(Option<KeyValue>),
}

impl Commit {
    /// The outcome where a compare failed, the first of which was about the object.
    fn refused(object: &Compare, current: Option<KeyValue>) -> Self {
        let is_expected = match object {
            Compare::Absent(_) => current.is_none(),
            Compare::ModRevision(_, revision) => current.as_ref().is_some_and(|kv| kv.mod_revision == *revision),
        };
        if is_expected { Self::Outrun(current) } else { Self::Lost(current) }
    }
}

/// An object as the store takes it. The object itself is let go of before anybody waits for the disk: with hundreds of
/// writes under way what the next one is made of would else come from far.
struct Encoded {
    value: Bytes,
    extract: Extract,
    /// The cache's key.
    name: String,
    /// What else happens in its transaction.
    beside: Txn,
}

impl Encoded {
    /// The object, for another try under another name.
    fn decode(&self) -> Value {
        serde_json::from_slice(&self.value).unwrap_or_default()
    }
}

impl Inner {
    /// Writes an object down that is to come in the place of `old`.
    async fn encode(&self, call: &Call<'_>, old: Option<&Value>, object: &Value) -> Result<Encoded, ApiError> {
        let object = &*self.stored_form(call, object).await?;
        let mut beside = Txn::default();
        self.add_holdings(call, old, Some(object), &mut beside);
        Ok(Encoded {
            value: Bytes::from(splice::encode(object)),
            extract: call.extract(object),
            name: object_key(text(object, "namespace"), text(object, "name")),
            beside,
        })
    }

    /// Puts one object if `compare` holds. The answer is the object under its revision.
    async fn put(&self, call: &Call<'_>, key: &Bytes, compare: Compare, object: &Encoded) -> Result<Commit, ApiError> {
        let Encoded { value, extract, name, beside } = object;
        let lease = self.event_leases.for_resource(call.stored_resource(), &*self.store).await?;
        // The cache of a custom resource may be gone when the event comes, and reads every object itself.
        let announced = call.custom.is_none().then(|| self.caches.announce(key, value.clone(), extract.clone()));
        let put = Op::Put { key: key.clone(), value: value.clone(), lease };
        let txn = Txn {
            compares: iter::once(&compare).chain(&beside.compares).cloned().collect(),
            ops: iter::once(put).chain(beside.ops.iter().cloned()).collect(),
        };
        match self.store.txn(txn).await.map_err(|error| store_error(&error))? {
            TxnReply::Committed { revision } => {
                let create_revision = if let Compare::Absent(_) = compare { revision } else { Revision(0) };
                let row = KeyValue { key: key.clone(), value: value.clone(), create_revision, mod_revision: revision };
                Ok(Commit::Done(match announced {
                    Some(announced) => announced.keep(name, &row),
                    None => Arc::new(extract.clone().of_row(name, &row)),
                }))
            }
            TxnReply::Conflict { current, .. } => {
                let mut current = current.into_iter();
                let refused = Commit::refused(&compare, current.next().flatten());
                if let Commit::Outrun(_) = refused {
                    // Whoever tries again is to see who was faster.
                    self.caches.fresh().await?;
                    self.release_stale_ports(current.flatten()).await;
                }
                Ok(refused)
            }
        }
    }

    /// Deletes a key whose object has nothing left to wait for.
    async fn take(&self, call: &Call<'_>, key: &Bytes, compare: Compare, old: &Value) -> Result<TxnReply, ApiError> {
        let mut txn = Txn { compares: vec![compare], ops: vec![Op::Delete { key: key.clone() }] };
        self.add_holdings(call, Some(old), None, &mut txn);
        self.store.txn(txn).await.map_err(|error| store_error(&error))
    }

    /// An object that is not stored (a dry run, or one that is gone), as it would be served.
    fn unstored(call: &Call<'_>, object: &Value, revision: Option<u64>) -> Arc<Stored> {
        let name = object_key(text(object, "namespace"), text(object, "name"));
        let bytes = splice::encode(object);
        let extract = call.extract(object);
        match revision {
            Some(revision) => Arc::new(extract.stored(&name, &bytes, revision, cache::Change::Modified)),
            None => Arc::new(Stored {
                key: name.into(),
                json: bytes.into(),
                line: Bytes::new(),
                resource_version: 0,
                labels: extract.labels,
                fields: extract.fields,
                message: KeptMessage::default(),
                shown: KeptForm::default(),
            }),
        }
    }

    /// The stored object as it is now; waits until every acknowledged write is visible.
    pub async fn current(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Stored>>, ApiError> {
        self.caches.fresh().await?;
        Ok(self.caches.of(resource).and_then(|cache| cache.get(&object_key(namespace, name))))
    }

    /// The object in the version that is stored.
    async fn stored_form<'o>(&self, call: &Call<'_>, object: &'o Value) -> Result<Cow<'o, Value>, ApiError> {
        match call.custom {
            Some(custom) if custom.is_to_be_converted(object) => Ok(Cow::Owned(self.as_stored(custom, object).await?)),
            _ => Ok(Cow::Borrowed(object)),
        }
    }

    /// What a webhook makes of an object for the store; fields that the stored version does not know are dropped.
    async fn as_stored(&self, custom: &Custom, object: &Value) -> Result<Value, ApiError> {
        let mut converted = self.convert_one(custom, custom.stored, object.clone()).await?;
        custom.definition.storage_version().prune(&mut converted);
        Ok(converted)
    }

    /// The answer in the version that the client speaks.
    pub(crate) async fn in_version(
        &self,
        resource: &'static Resource,
        custom: Option<&Custom>,
        stored: Arc<Stored>,
    ) -> Result<Arc<Stored>, ApiError> {
        match custom {
            Some(custom) if custom.converter.is_some() => {
                let shown = self.in_versions(resource, Some(custom), vec![stored]).await?;
                shown.into_iter().next().ok_or_else(ApiError::no_such_resource)
            }
            custom => Ok(convert::served(resource, custom, stored)),
        }
    }
}
