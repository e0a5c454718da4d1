//! Pods by the hundred: a controller sends the same words again and again and leaves the names to the server. The rules
//! make the same of all of them while nothing has changed that they looked at, so they are asked about the first, and
//! those that follow are its twins: the same bytes but for name and identity.
//!
//! What the rules look at is written down while they look ([`note`]); a change of any of it, another second, another
//! user or namespace ends the series. Nothing is a twin where a quota, a policy, a webhook or an audit log wants to see
//! each one for itself.

use std::{cell::RefCell, ops::Range, sync::Arc};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use knarr_api::{meta, registry::Resource, status::ApiError, time};
use knarr_store::{Compare, Txn};
use memchr::memmem;
use serde_json::Value;

use super::{Call, Commit, Encoded, Validation, Written, text};
use crate::{
    builtin,
    cache::{Caches, Extract, object_key, store_key},
    codec::media_type,
    contract::{Admission, UserInfo},
    server::Inner,
};

/// What is written down about one creation.
#[derive(Default)]
struct Notes {
    /// What was looked at, each with its generation before the first look.
    seen: Vec<(&'static Resource, u64)>,
    /// The object as the rules left it.
    made: Option<Made>,
}

struct Made {
    base: String,
    created: String,
    value: Bytes,
    extract: Extract,
    name: Range<usize>,
    uid: Range<usize>,
}

/// The first of a series.
struct First {
    body: Bytes,
    namespace: String,
    user: UserInfo,
    manager: String,
    validation: Validation,
    warnings: Vec<String>,
    seen: Vec<(&'static Resource, u64)>,
    made: Made,
}

/// The series that a server is in.
#[derive(Default)]
pub(crate) struct Twins(ArcSwapOption<First>);

tokio::task_local! {
    static NOTES: RefCell<Notes>;
}

/// Has to be called before the rules look at anything of a resource.
pub(crate) fn note(resource: &'static Resource, caches: &Caches) {
    let _ = NOTES.try_with(|notes| {
        let seen = &mut notes.borrow_mut().seen;
        if !seen.iter().any(|(known, _)| std::ptr::eq(*known, resource)) {
            seen.push((resource, generation(resource, caches)));
        }
    });
}

/// Has to be called with an object that the rules have let through, and as it goes to the store.
pub(super) fn keep(object: &Value, encoded: &Encoded) {
    let _ = NOTES.try_with(|notes| notes.borrow_mut().made = Made::of(object, encoded));
}

fn generation(resource: &'static Resource, caches: &Caches) -> u64 {
    caches.of(resource).map_or(0, |cache| cache.generation())
}

impl Made {
    /// `None` where more changes than a name and an identity in their places.
    fn of(object: &Value, encoded: &Encoded) -> Option<Self> {
        let Encoded { value, extract, beside, .. } = encoded;
        let base = text(object, "generateName");
        let once = |key| place(value, text(object, key));
        (!base.is_empty() && *beside == Txn::default()).then_some(())?;
        Some(Self {
            base: base.to_owned(),
            created: text(object, "creationTimestamp").to_owned(),
            value: value.clone(),
            extract: extract.clone(),
            name: once("name")?,
            uid: once("uid")?,
        })
    }

    /// The same with another name and identity.
    fn twin(&self, namespace: &str, name: &str, uid: &str) -> Option<Encoded> {
        let mut value = self.value.to_vec();
        for (place, text) in [(&self.name, name), (&self.uid, uid)] {
            (place.len() == text.len()).then_some(())?;
            value[place.clone()].copy_from_slice(text.as_bytes());
        }
        let own = &self.value[self.name.clone()];
        let field = |field: &str| if field.as_bytes() == own { name.into() } else { field.into() };
        let fields = self.extract.fields.iter().map(|shown| field(shown)).collect();
        Some(Encoded {
            value: value.into(),
            extract: Extract { labels: self.extract.labels.clone(), fields },
            name: object_key(namespace, name),
            beside: Txn::default(),
        })
    }
}

/// Where a text stands; `None` if it does not or more than once.
fn place(value: &[u8], text: &str) -> Option<Range<usize>> {
    let mut found = memmem::find_iter(value, text);
    let start = found.next().filter(|_| !text.is_empty())?;
    found.next().is_none().then(|| start..start + text.len())
}

impl First {
    fn has_twin(&self, call: &Call<'_>, body: &[u8], created: &str, caches: &Caches) -> bool {
        self.namespace == call.namespace
            && self.manager == call.options.manager
            && self.validation == call.options.validation
            && self.user == *call.user
            && self.made.created == created
            && *self.body == *body
            && self.seen.iter().all(|(resource, before)| generation(resource, caches) == *before)
    }
}

impl Inner {
    /// Whether a creation may be one of many that nobody wants to see for itself.
    pub(crate) fn may_have_twins(&self, call: &Call<'_>, headers: &HeaderMap) -> bool {
        let counts = |plugin: &Arc<dyn Admission>| plugin.counts(call.resource, call.namespace);
        std::ptr::eq(call.resource, builtin::pods())
            && call.subresource.is_empty()
            && !call.options.dry_run
            && media_type(headers) == "application/json"
            && self.audit.is_none()
            && !self.plugins.admission.iter().any(counts)
            && !(self.policies.mutates() || self.policies.validates())
            && !(self.webhooks.mutates() || self.webhooks.validates())
    }

    /// Makes the next one of a series; `None` where it is of none, or where its name is taken.
    pub(crate) async fn create_twin(&self, call: &Call<'_>, body: &Bytes) -> Result<Option<Written>, ApiError> {
        let created = time::seconds(self.env.now());
        let first = self.twins.0.load_full();
        let Some(first) = first.filter(|first| first.has_twin(call, body, &created, &self.caches)) else {
            return Ok(None);
        };
        let name = meta::generate_name(&first.made.base, self.env.random());
        let uid = self.env.uid().to_string();
        let Some(twin) = first.made.twin(call.namespace, &name, &uid) else { return Ok(None) };
        let call = Call { name: &name, ..*call };
        let key = store_key(call.resource, call.namespace, &name);
        Ok(match self.put(&call, &key, Compare::Absent(key.clone()), &twin).await? {
            Commit::Done(object) => {
                let warnings = first.warnings.clone();
                Some(Written { object, status: StatusCode::CREATED, warnings, exists: true })
            }
            Commit::Lost(_) | Commit::Outrun(_) => None,
        })
    }

    /// As [`Inner::create`], for an object that may be the first of a series. `body`: as it came.
    pub(crate) async fn create_first(&self, call: Call<'_>, body: Bytes, object: Value) -> Result<Written, ApiError> {
        let work = async { (self.create(call, object).await, NOTES.with(RefCell::take)) };
        let (written, Notes { seen, made }) = NOTES.scope(RefCell::default(), work).await;
        let written = written?;
        if let Some(made) = made {
            let first = First {
                body,
                namespace: call.namespace.to_owned(),
                user: call.user.clone(),
                manager: call.options.manager.clone(),
                validation: call.options.validation,
                warnings: written.warnings.clone(),
                seen,
                made,
            };
            self.twins.0.store(Some(Arc::new(first)));
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests;
