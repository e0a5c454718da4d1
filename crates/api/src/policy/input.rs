//! One request as expressions see it.

use knarr_cel::{Attributes, Authorizer, Composite, Value as CelValue, Variables};
use serde_json::Value;

use super::environment::{AUTHORIZER, NAMESPACE, RESOURCE_CHECK, VARIABLES};

/// What a request is about, in the version that a policy or webhook wants to see.
#[derive(Clone)]
pub struct Input<'a> {
    /// Null where there is none, as for a deletion.
    pub object: &'a Value,
    pub old: &'a Value,
    /// The AdmissionRequest, without the objects.
    pub request: &'a Value,
    /// Null where there are none.
    pub params: &'a Value,
    /// The Namespace that the request is in; null outside of all.
    pub namespace: &'a Value,
    pub authorizer: &'a dyn Authorizer,
    /// The resource of the request, as `authorizer.requestResource` is asked about it.
    pub resource: Attributes,
}

impl<'a> Input<'a> {
    pub(crate) fn variables(&self, composed: &'a [Composite]) -> Variables<'a> {
        // A namespace was validated when it was written: its times are times.
        let namespace = CelValue::declared(self.namespace, &NAMESPACE).unwrap_or(CelValue::Null);
        Variables::new()
            .with("object", CelValue::json(self.object))
            .with("oldObject", CelValue::json(self.old))
            .with("request", CelValue::json(self.request))
            .with("params", CelValue::json(self.params))
            .with("namespaceObject", namespace)
            .with_authorizer(AUTHORIZER, self.authorizer)
            .with_resource_check(RESOURCE_CHECK, self.authorizer, self.resource.clone())
            .with_composed(VARIABLES, composed)
    }
}
