//! A request as expressions see it, made once for all that see it alike.

use std::borrow::Cow;

use knarr_api::{policy::Input, status::ApiError};
use knarr_cel::Attributes;
use serde_json::Value;

use super::{Subject, authority::Authority, describe};
use crate::{custom::Found, server::Inner};

/// What an [`Input`] borrows from.
pub(crate) struct View<'v> {
    pub object: Cow<'v, Value>,
    old: Cow<'v, Value>,
    request: Value,
    namespace: Value,
    authority: Authority<'v>,
    resource: Attributes,
}

impl View<'_> {
    pub fn input<'i>(&'i self, params: &'i Value) -> Input<'i> {
        Input {
            object: &self.object,
            old: &self.old,
            request: &self.request,
            params,
            namespace: &self.namespace,
            authorizer: &self.authority,
            resource: self.resource.clone(),
        }
    }
}

impl Inner {
    /// `sees_namespace`: some expression asks for the Namespace that the request is in.
    pub(crate) async fn seen<'v>(
        &'v self,
        subject: &'v Subject<'_, '_>,
        found: &Found,
        is_mutating: bool,
        sees_namespace: bool,
    ) -> Result<View<'v>, ApiError> {
        let (object, old) = self.shown(subject, found, is_mutating).await?;
        // A Namespace is in none, although its reviews name it.
        let namespace = if subject.is_namespace() { "" } else { subject.namespace() };
        let namespace = match namespace {
            name if sees_namespace && !name.is_empty() => self.namespace_now(name).await?.value(),
            _ => Value::Null,
        };
        let asked = subject.request.resource;
        let resource = Attributes {
            group: asked.group.to_owned(),
            resource: asked.plural.to_owned(),
            subresource: subject.subresource().to_owned(),
            namespace: subject.namespace().to_owned(),
            name: subject.name().to_owned(),
            ..Attributes::default()
        };
        let authority = Authority { authorizer: &self.plugins, user: subject.request.user };
        Ok(View { object, old, request: describe(subject, found), namespace, authority, resource })
    }
}
