//! What a webhook is asked about, in the version that it wants to see.

use std::sync::Arc;

use knarr_api::{registry::Resource, selector::LabelSelector, status::ApiError, strategy::scale as workload};
use serde_json::{Map, Value};

use super::configuration::{Asked, Hook};
use crate::{
    builtin,
    contract::{AdmissionRequest, Operation},
    convert,
    custom::{self, Custom, Found},
    server::Inner,
    write::metadata_mut,
};

/// What a write looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The resource's own objects, or whatever its subresource takes.
    Own,
    /// A Scale; the write itself is of the whole workload.
    Scale,
}

/// One write on its way through the webhooks.
pub(crate) struct Subject<'s, 'r> {
    pub request: &'s mut AdmissionRequest<'r>,
    pub custom: Option<&'s Custom>,
    pub form: Form,
    /// True where the name was made of `generateName`; webhooks that change objects come before upstream makes it.
    pub is_name_generated: bool,
}

/// A webhook that wants to be asked, and as what.
pub(super) struct Invocation {
    pub hook: Arc<Hook>,
    /// The place of the webhook among all, as audit annotations count.
    pub index: usize,
    pub found: Found,
}

impl Subject<'_, '_> {
    pub fn subresource(&self) -> &str {
        match self.form {
            Form::Own => self.request.subresource,
            Form::Scale => "scale",
        }
    }

    fn asked<'a>(&'a self, resource: &'a Resource) -> Asked<'a> {
        Asked {
            operation: self.request.operation,
            group: resource.group,
            version: resource.version,
            resource: resource.plural,
            subresource: self.subresource(),
            namespace: self.request.namespace,
        }
    }

    /// The namespace as reviews name it: a Namespace is in itself.
    pub fn namespace(&self) -> &str {
        if self.is_namespace() && !self.is_name_generated { self.request.name } else { self.request.namespace }
    }

    fn is_namespace(&self) -> bool {
        self.request.resource.plural == "namespaces" && self.request.resource.group.is_empty()
    }

    /// Nobody may lock themselves out: what configures admission is never asked about.
    pub fn is_exempt(&self) -> bool {
        let resource = self.request.resource;
        resource.group == "admissionregistration.k8s.io"
            && matches!(
                resource.plural,
                "validatingwebhookconfigurations"
                    | "mutatingwebhookconfigurations"
                    | "validatingadmissionpolicies"
                    | "validatingadmissionpolicybindings"
                    | "mutatingadmissionpolicies"
                    | "mutatingadmissionpolicybindings"
            )
    }
}

/// The kind of what is sent to a resource or subresource.
pub(super) fn kind(resource: &Resource, subresource: &str) -> (&'static str, &'static str, &'static str) {
    match resource.subresource(subresource) {
        Some(row) if !subresource.is_empty() => (row.group, row.version, row.kind),
        _ => resource.gvk(),
    }
}

impl Inner {
    /// The webhook's call, where it wants one for this request.
    pub(super) async fn invocation(
        &self,
        hook: &Arc<Hook>,
        index: usize,
        subject: &Subject<'_, '_>,
    ) -> Result<Option<Invocation>, ApiError> {
        let Some(found) = self.matched(hook, subject) else { return Ok(None) };
        if !self.selects_namespace(hook, subject).await? {
            return Ok(None);
        }
        let objects = hook.objects().map_err(ApiError::internal)?;
        let request = &*subject.request;
        let selects = |object: &Value| object["metadata"].is_object() && matches(objects, object);
        if !objects.is_empty() && !selects(&request.object) && !request.old.is_some_and(selects) {
            return Ok(None);
        }
        Ok(Some(Invocation { hook: hook.clone(), index, found }))
    }

    /// The resource as which the webhook wants to hear of the request.
    fn matched(&self, hook: &Hook, subject: &Subject<'_, '_>) -> Option<Found> {
        let resource = subject.request.resource;
        if hook.wants(&subject.asked(resource)) {
            return Some(Found { resource, custom: self.catalogue.custom(resource) });
        }
        if hook.exact {
            return None;
        }
        let all = self.catalogue.now();
        let same: Vec<&'static Resource> = all
            .rows()
            .filter(|row| row.storage == resource.storage && !row.same(resource) && !row.storage.is_empty())
            .filter(|row| subject.subresource().is_empty() || row.subresource(subject.subresource()).is_some())
            .collect();
        let resource = *hook.first(&same, |row| subject.asked(row))?;
        Some(Found { resource, custom: self.catalogue.custom(resource) })
    }

    async fn selects_namespace(&self, hook: &Hook, subject: &Subject<'_, '_>) -> Result<bool, ApiError> {
        let namespace = subject.namespace();
        if namespace.is_empty() && !subject.is_namespace() {
            return Ok(true);
        }
        let selector = hook.namespaces().map_err(ApiError::internal)?;
        if selector.is_empty() {
            return Ok(true);
        }
        let is_written = matches!(subject.request.operation, Operation::Create | Operation::Update);
        if subject.is_namespace() && is_written && subject.subresource().is_empty() {
            return Ok(matches(selector, &subject.request.object));
        }
        let (namespaces, lookup) = (builtin::namespaces(), self.webhooks.client.lookup());
        let found = match lookup.get(namespaces, "", namespace) {
            Some(found) => Some(found),
            // It may have been made a moment ago.
            None => lookup.get_fresh(namespaces, "", namespace).await?,
        };
        let found = found.ok_or_else(|| ApiError::not_found("namespaces", namespace))?;
        Ok(matches(selector, &found.value()))
    }

    /// The new and the old object as the webhook is to see them.
    pub(super) async fn shown(
        &self,
        subject: &Subject<'_, '_>,
        found: &Found,
        is_mutating: bool,
    ) -> Result<(Value, Value), ApiError> {
        let request = &*subject.request;
        let mut object = self.in_form(subject, found, &request.object).await?;
        if is_mutating && request.operation == Operation::Create && subject.subresource().is_empty() {
            hide_identity(&mut object, subject.is_name_generated);
        }
        let old = match request.old {
            Some(old) => self.in_form(subject, found, old).await?,
            None => Value::Null,
        };
        Ok((object, old))
    }

    async fn in_form(&self, subject: &Subject<'_, '_>, found: &Found, object: &Value) -> Result<Value, ApiError> {
        if object.is_null() || is_foreign(subject) {
            return Ok(object.clone());
        }
        if subject.form == Form::Scale {
            return Ok(match subject.custom {
                Some(custom) => custom::scale::read(custom, object),
                None => workload::read(object),
            });
        }
        match &found.custom {
            Some(custom) => self.convert_one(custom, found.resource, object.clone()).await,
            None => Ok(convert::value_to_served(found.resource, None, object.clone())),
        }
    }

    /// The other way: what a webhook made of the object becomes what is written.
    pub(super) async fn take_back(
        &self,
        subject: &mut Subject<'_, '_>,
        found: &Found,
        mut changed: Value,
    ) -> Result<(), ApiError> {
        if is_foreign(subject) {
            subject.request.object = changed;
            return Ok(());
        }
        if subject.form == Form::Scale {
            let object = &mut subject.request.object;
            return match subject.custom {
                Some(custom) => custom::scale::write(custom, &changed, object),
                None => {
                    workload::write(&changed, object);
                    Ok(())
                }
            };
        }
        let before = &subject.request.object;
        if subject.request.operation == Operation::Create {
            restore_identity(&mut changed, before);
        }
        changed = match &found.custom {
            Some(custom) => {
                let version = before["apiVersion"].as_str().unwrap_or_default().to_owned();
                self.convert_to(custom, &version, vec![changed]).await?.pop().unwrap_or_default()
            }
            None => {
                convert::to_stored(found.resource, None, &mut changed);
                changed
            }
        };
        subject.request.object = changed;
        Ok(())
    }
}

/// What is sent to a subresource that takes another kind than its resource's: it has one version only.
fn is_foreign(subject: &Subject<'_, '_>) -> bool {
    subject.form == Form::Own
        && !subject.request.subresource.is_empty()
        && kind(subject.request.resource, subject.request.subresource).2 != subject.request.resource.kind
}

fn matches(selector: &LabelSelector, object: &Value) -> bool {
    selector.matches_value(&object["metadata"]["labels"])
}

/// What the server gives an object is not there yet when upstream asks those that may change it.
fn hide_identity(object: &mut Value, is_name_generated: bool) {
    let metadata = metadata_mut(object);
    metadata.remove("uid");
    if is_name_generated {
        metadata.remove("name");
    }
}

fn restore_identity(changed: &mut Value, before: &Value) {
    let keep = |metadata: &mut Map<String, Value>, key: &str| {
        if let Some(value) = before["metadata"].get(key) {
            metadata.insert(key.into(), value.clone());
        }
    };
    let metadata = metadata_mut(changed);
    keep(metadata, "uid");
    keep(metadata, "creationTimestamp");
    if metadata.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
        keep(metadata, "name");
    }
}
