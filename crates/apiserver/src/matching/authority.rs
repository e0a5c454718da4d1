//! What expressions ask about who may do what, answered by this server's own authorisers.

use futures::FutureExt;
use knarr_cel::{Attributes, Decision};

use crate::{
    authn::service_account,
    contract::{self, Authorizer, UserInfo},
};

/// Asked for whoever makes the request, unless an expression names a service account.
pub(super) struct Authority<'v> {
    pub authorizer: &'v dyn Authorizer,
    pub user: &'v UserInfo,
}

impl knarr_cel::Authorizer for Authority<'_> {
    fn check(&self, asked: &Attributes) -> Decision {
        let account = asked.user.as_ref().map(|(namespace, name)| service_account(namespace, name));
        let is_resource = asked.path.is_none();
        let attributes = contract::Attributes {
            user: account.as_ref().unwrap_or(self.user),
            verb: &asked.verb,
            namespace: &asked.namespace,
            group: &asked.group,
            version: if is_resource { "*" } else { "" },
            resource: &asked.resource,
            subresource: &asked.subresource,
            name: &asked.name,
            field_selector: asked.field_selector.as_deref().unwrap_or_default(),
            path: asked.path.as_deref().unwrap_or_default(),
            is_resource,
        };
        // Authorisers read the watch cache and wait for nobody. One that did could not be asked by an expression.
        match self.authorizer.authorize(&attributes).now_or_never() {
            Some(contract::Decision::Allow) => Decision { allowed: true, ..Decision::default() },
            Some(contract::Decision::Deny(reason) | contract::Decision::NoOpinion(reason)) => {
                Decision { reason, ..Decision::default() }
            }
            None => Decision { error: Some("the authorizer did not answer at once".into()), ..Decision::default() },
        }
    }
}
