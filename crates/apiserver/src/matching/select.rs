//! Whether criteria match a request, and as which of several equivalent resources.

use std::sync::Arc;

use knarr_api::{registry::Resource, selector::LabelSelector, status::ApiError};
use serde_json::Value;

use super::{Criteria, Subject};
use crate::{
    builtin,
    contract::{Lookup, Operation, Stored},
    custom::Found,
    server::Inner,
};

impl Inner {
    /// The resource as which a request is what the criteria are for; `None` where it is not. What is cheap is asked
    /// first: most criteria are for other resources.
    pub(crate) async fn matched(
        &self,
        criteria: &Criteria,
        subject: &Subject<'_, '_>,
    ) -> Result<Option<Found>, ApiError> {
        let Some(found) = self.named(criteria, subject) else { return Ok(None) };
        if criteria.has_exclusions() && self.excluded(criteria, subject) {
            return Ok(None);
        }
        if !self.selects_namespace(criteria, subject).await? {
            return Ok(None);
        }
        let objects = criteria.objects().map_err(ApiError::internal)?;
        let request = &*subject.request;
        let selects = |object: &Value| object["metadata"].is_object() && matches(objects, object);
        let is_selected = objects.is_empty() || selects(&request.object) || request.old.is_some_and(selects);
        Ok(is_selected.then_some(found))
    }

    fn named(&self, criteria: &Criteria, subject: &Subject<'_, '_>) -> Option<Found> {
        let resource = subject.request.resource;
        if criteria.wants(&subject.asked(resource)) {
            return Some(Found { resource, custom: self.catalogue.custom(resource) });
        }
        if criteria.exact {
            return None;
        }
        let same = self.equivalent(subject);
        let resource = *criteria.first(&same, |row| subject.asked(row))?;
        Some(Found { resource, custom: self.catalogue.custom(resource) })
    }

    fn excluded(&self, criteria: &Criteria, subject: &Subject<'_, '_>) -> bool {
        let mut all = vec![subject.request.resource];
        if !criteria.exact {
            all.extend(self.equivalent(subject));
        }
        criteria.excludes(&all, |row| subject.asked(row))
    }

    /// The same objects in other versions.
    fn equivalent(&self, subject: &Subject<'_, '_>) -> Vec<&'static Resource> {
        let resource = subject.request.resource;
        let all = self.catalogue.now();
        all.rows()
            .filter(|row| row.storage == resource.storage && !row.same(resource) && !row.storage.is_empty())
            .filter(|row| subject.subresource().is_empty() || row.subresource(subject.subresource()).is_some())
            .collect()
    }

    async fn selects_namespace(&self, criteria: &Criteria, subject: &Subject<'_, '_>) -> Result<bool, ApiError> {
        let namespace = subject.namespace();
        if namespace.is_empty() && !subject.is_namespace() {
            return Ok(true);
        }
        let selector = criteria.namespaces().map_err(ApiError::internal)?;
        if selector.is_empty() {
            return Ok(true);
        }
        let is_written = matches!(subject.request.operation, Operation::Create | Operation::Update);
        if subject.is_namespace() && is_written && subject.subresource().is_empty() {
            return Ok(matches(selector, &subject.request.object));
        }
        Ok(matches(selector, &self.namespace_now(namespace).await?.value()))
    }

    pub(crate) async fn namespace_now(&self, name: &str) -> Result<Arc<Stored>, ApiError> {
        let found = match self.lookup.get(builtin::namespaces(), "", name) {
            Some(found) => Some(found),
            // It may have been made a moment ago.
            None => self.lookup.get_fresh(builtin::namespaces(), "", name).await?,
        };
        found.ok_or_else(|| ApiError::not_found("namespaces", name))
    }
}

fn matches(selector: &LabelSelector, object: &Value) -> bool {
    selector.matches_value(&object["metadata"]["labels"])
}
