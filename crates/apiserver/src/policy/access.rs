//! Who may name parameters: a policy shows what is in them to whoever it refuses, so that nobody names what they may not
//! read themselves.

use knarr_api::{
    field::{FieldError, FieldPath},
    status::ApiError,
};
use serde_json::Value;

use super::params::ParamKind;
use crate::{
    authz::is_master,
    builtin,
    contract::{AdmissionRequest, Attributes, Authorizer, Decision, Lookup, Operation},
    json::text,
    server::Inner,
};

impl Inner {
    /// Checks what is written as a policy or a binding; everything else passes.
    pub(crate) async fn may_name_parameters(&self, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        let resource = request.resource;
        let is_written = matches!(request.operation, Operation::Create | Operation::Update);
        if resource.group != "admissionregistration.k8s.io" || !is_written || !request.subresource.is_empty() {
            return Ok(());
        }
        let (spec, before) = (&request.object["spec"], request.old.map_or(&Value::Null, |old| &old["spec"]));
        let refused = match resource.plural {
            "validatingadmissionpolicies" | "mutatingadmissionpolicies" if spec["paramKind"] != before["paramKind"] => {
                let why = self.may_use_kind(request, &spec["paramKind"]).await;
                why.map(|why| ("paramKind", why))
            }
            "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings"
                if spec["paramRef"] != before["paramRef"] || spec["policyName"] != before["policyName"] =>
            {
                let why = self.may_use_reference(request, spec).await;
                why.map(|why| ("paramRef", why))
            }
            _ => None,
        };
        let Some((key, why)) = refused else { return Ok(()) };
        let path = FieldPath::new("spec");
        let kind = format!("{}.{}", resource.kind, resource.group);
        Err(ApiError::invalid(&kind, request.name, vec![FieldError::forbidden(&path.child(key), why)]))
    }

    async fn may_use_kind(&self, request: &AdmissionRequest<'_>, kind: &Value) -> Option<String> {
        let read = ParamKind::read(kind)?;
        if self.may(request, "get", Some(&read), "*", "*").await {
            return None;
        }
        let (user, kind, version) = (&request.user.name, text(&kind["kind"]), text(&kind["apiVersion"]));
        Some(format!(
            "user {user} must have \"get\" permission on all objects of the referenced paramKind (kind={kind}, \
             apiVersion={version})"
        ))
    }

    async fn may_use_reference(&self, request: &AdmissionRequest<'_>, spec: &Value) -> Option<String> {
        let reference = spec["paramRef"].as_object()?;
        let policies = match request.resource.plural {
            "mutatingadmissionpolicybindings" => builtin::mutating_admission_policies(),
            _ => builtin::validating_admission_policies(),
        };
        let policy = self.lookup.get(policies, "", text(&spec["policyName"]));
        let kind = policy.and_then(|policy| ParamKind::read(&policy.value()["spec"]["paramKind"]));
        let said = |key: &str| reference.get(key).map_or("", text);
        let verb = if said("name").is_empty() { "list" } else { "get" };
        if self.may(request, verb, kind.as_ref(), said("namespace"), said("name")).await {
            return None;
        }
        let user = &request.user.name;
        Some(format!("user {user} does not have \"{verb}\" permission on the object referenced by paramRef"))
    }

    /// Of a kind that is not known the right to everything is asked for.
    async fn may(
        &self,
        request: &AdmissionRequest<'_>,
        verb: &str,
        kind: Option<&ParamKind>,
        namespace: &str,
        name: &str,
    ) -> bool {
        let found = self.param_resource(kind).ok().flatten();
        let attributes = Attributes {
            user: request.user,
            verb,
            namespace,
            group: kind.map_or("*", |kind| &kind.group),
            version: kind.map_or("*", |kind| &kind.version),
            resource: found.map_or("*", |found| found.resource.plural),
            subresource: "",
            name,
            field_selector: "",
            path: "",
            is_resource: true,
        };
        is_master(request.user) || self.plugins.authorize(&attributes).await == Decision::Allow
    }
}
