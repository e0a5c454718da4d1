//! One request on its way past webhooks and policies.

use knarr_api::registry::Resource;

use super::Asked;
use crate::{contract::AdmissionRequest, custom::Custom};

/// What a write looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The resource's own objects, or whatever its subresource takes.
    Own,
    /// A Scale; the write itself is of the whole workload.
    Scale,
}

/// One write on its way past webhooks and policies.
pub(crate) struct Subject<'s, 'r> {
    pub request: &'s mut AdmissionRequest<'r>,
    pub custom: Option<&'s Custom>,
    pub form: Form,
    /// True where the name was made of `generateName`; webhooks that change objects come before upstream makes it.
    pub is_name_generated: bool,
}

impl Subject<'_, '_> {
    pub fn subresource(&self) -> &str {
        match self.form {
            Form::Own => self.request.subresource,
            Form::Scale => "scale",
        }
    }

    pub fn asked<'a>(&'a self, resource: &'a Resource) -> Asked<'a> {
        Asked {
            operation: self.request.operation,
            group: resource.group,
            version: resource.version,
            resource: resource.plural,
            subresource: self.subresource(),
            name: self.name(),
            namespace: self.request.namespace,
        }
    }

    /// Empty while it is still to be generated.
    pub fn name(&self) -> &str {
        if self.is_name_generated { "" } else { self.request.name }
    }

    /// The namespace as reviews name it: a Namespace is in itself.
    pub fn namespace(&self) -> &str {
        if self.is_namespace() && !self.is_name_generated { self.request.name } else { self.request.namespace }
    }

    pub fn is_namespace(&self) -> bool {
        self.request.resource.plural == "namespaces" && self.request.resource.group.is_empty()
    }

    /// Nobody may lock themselves out: webhooks are never asked about what configures admission.
    pub fn is_exempt_from_webhooks(&self) -> bool {
        self.configures_admission()
            && (self.is_exempt_from_policies() || self.request.resource.plural.ends_with("webhookconfigurations"))
    }

    /// And policies are never asked about policies.
    pub fn is_exempt_from_policies(&self) -> bool {
        self.configures_admission()
            && matches!(
                self.request.resource.plural,
                "validatingadmissionpolicies"
                    | "validatingadmissionpolicybindings"
                    | "mutatingadmissionpolicies"
                    | "mutatingadmissionpolicybindings"
            )
    }

    fn configures_admission(&self) -> bool {
        self.request.resource.group == "admissionregistration.k8s.io"
    }

    /// What is sent to a subresource that takes another kind than its resource's: it has one version only.
    pub fn is_foreign(&self) -> bool {
        self.form == Form::Own
            && !self.request.subresource.is_empty()
            && kind(self.request.resource, self.request.subresource).2 != self.request.resource.kind
    }
}

/// The kind of what is sent to a resource or subresource.
pub(crate) fn kind(resource: &Resource, subresource: &str) -> (&'static str, &'static str, &'static str) {
    match resource.subresource(subresource) {
        Some(row) if !subresource.is_empty() => (row.group, row.version, row.kind),
        _ => resource.gvk(),
    }
}
