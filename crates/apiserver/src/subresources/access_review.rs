use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::field::{FieldError, FieldPath};
use knarr_api::status::ApiError;
use serde_json::{Map, Value, json};

use super::reply::{created, read_object};
use super::selectors;
use crate::authz::{Rbac, is_master};
use crate::contract::{
    Attributes, Authorizer, Decision, Lookup, Response, SubresourceHandler, SubresourceRequest, UserInfo,
};
use crate::json::{items, text};

const API_VERSION: &str = "authorization.k8s.io/v1";

/// May somebody do something: SubjectAccessReview, LocalSubjectAccessReview and SelfSubjectAccessReview.
pub struct AccessReviews {
    authorizer: Arc<dyn Authorizer>,
    rbac: Arc<Rbac>,
}

impl AccessReviews {
    pub fn new(authorizer: Arc<dyn Authorizer>, rbac: Arc<Rbac>) -> Self {
        Self { authorizer, rbac }
    }

    async fn decide(&self, user: &UserInfo, spec: &Value) -> Value {
        let field_selector = field_selector(&spec["resourceAttributes"]);
        let attributes = attributes(user, spec, &field_selector);
        let mut status = Map::new();
        let (allowed, reason) = match self.authorizer.authorize(&attributes).await {
            Decision::Allow if is_master(user) => (true, String::new()),
            Decision::Allow => (true, self.rbac.explain(&attributes).unwrap_or_default()),
            Decision::Deny(reason) => {
                status.insert("denied".into(), true.into());
                (false, reason)
            }
            Decision::NoOpinion(reason) => (false, reason),
        };
        status.insert("allowed".into(), allowed.into());
        if !reason.is_empty() {
            status.insert("reason".into(), reason.into());
        }
        status.into()
    }
}

/// What a review is narrowed to as one line: what authorisers compare. Requirements that no such line can say narrow
/// nothing, which is never less strict: an authoriser that wants to see a selector does not see it.
fn field_selector(resource: &Value) -> Cow<'_, str> {
    let selector = &resource["fieldSelector"];
    let raw = text(&selector["rawSelector"]);
    if !raw.is_empty() {
        return raw.into();
    }
    let terms = items(&selector["requirements"]).iter().filter_map(|requirement| {
        let sign = match (text(&requirement["operator"]), items(&requirement["values"])) {
            ("In", [_]) => "=",
            ("NotIn", [_]) => "!=",
            _ => return None,
        };
        let value = text(&requirement["values"][0]);
        let is_plain = !value.contains([',', '=', '\\', '!']);
        is_plain.then(|| format!("{}{sign}{value}", text(&requirement["key"])))
    });
    terms.collect::<Vec<_>>().join(",").into()
}

fn attributes<'a>(user: &'a UserInfo, spec: &'a Value, field_selector: &'a str) -> Attributes<'a> {
    let path = &spec["nonResourceAttributes"];
    if path.is_object() {
        return Attributes {
            user,
            verb: text(&path["verb"]),
            namespace: "",
            group: "",
            version: "",
            resource: "",
            subresource: "",
            name: "",
            field_selector: "",
            path: text(&path["path"]),
            is_resource: false,
        };
    }
    let resource = &spec["resourceAttributes"];
    Attributes {
        user,
        verb: text(&resource["verb"]),
        namespace: text(&resource["namespace"]),
        group: text(&resource["group"]),
        version: text(&resource["version"]),
        resource: text(&resource["resource"]),
        subresource: text(&resource["subresource"]),
        name: text(&resource["name"]),
        field_selector,
        path: "",
        is_resource: true,
    }
}

/// What a review must say; all but those about oneself name whom they are about.
fn check(kind: &str, review: &Value) -> Result<(), ApiError> {
    let spec = &review["spec"];
    let for_others = kind != "SelfSubjectAccessReview";
    let root = FieldPath::new("spec");
    let mut errors = Vec::new();
    let (by_resource, by_path) = (spec["resourceAttributes"].is_object(), spec["nonResourceAttributes"].is_object());
    if by_resource && by_path {
        let why = "cannot be specified in combination with resourceAttributes";
        let value = spec["nonResourceAttributes"].clone();
        errors.push(FieldError::invalid(&root.child("nonResourceAttributes"), value, why));
    }
    if !by_resource && !by_path {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(FieldError::invalid(&root.child("resourceAttributes"), Value::Null, why));
    }
    if for_others && text(&spec["user"]).is_empty() && items(&spec["groups"]).is_empty() {
        let why = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&root.child("user"), "", why));
    }
    let resource = root.child("resourceAttributes");
    for (name, of_labels) in [("fieldSelector", false), ("labelSelector", true)] {
        selectors::check(&spec["resourceAttributes"][name], &resource.child(name), of_labels, &mut errors);
    }
    if kind == "LocalSubjectAccessReview" && by_path {
        let why = "disallowed on this kind of request";
        errors.push(FieldError::invalid(
            &root.child("nonResourceAttributes"),
            spec["nonResourceAttributes"].clone(),
            why,
        ));
    }
    check_metadata(kind, review, &mut errors);
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(&format!("{kind}.authorization.k8s.io"), "", errors))
}

/// A review is answered and forgotten, so it has no name; one about a namespace says which.
fn check_metadata(kind: &str, review: &Value, errors: &mut Vec<FieldError>) {
    let is_local = kind == "LocalSubjectAccessReview";
    if kind == "SelfSubjectAccessReview" {
        return;
    }
    let is_said = |(name, value): (&String, &Value)| {
        let is_free =
            matches!(name.as_str(), "managedFields" | "creationTimestamp") || (is_local && name == "namespace");
        !is_free && !value.is_null() && *value != "" && *value != json!({}) && *value != json!([])
    };
    if review["metadata"].as_object().is_some_and(|metadata| metadata.iter().any(is_said)) {
        let why = if is_local { "must be empty except for namespace" } else { "must be empty" };
        errors.push(FieldError::invalid(&FieldPath::new("metadata"), review["metadata"].clone(), why));
    }
}

fn subject(spec: &Value) -> UserInfo {
    let list = |value: &Value| items(value).iter().map(|item| text(item).to_owned()).collect::<Vec<String>>();
    let extra: BTreeMap<String, Vec<String>> =
        spec["extra"].as_object().into_iter().flatten().map(|(key, value)| (key.clone(), list(value))).collect();
    UserInfo {
        name: text(&spec["user"]).to_owned(),
        uid: text(&spec["uid"]).to_owned(),
        groups: list(&spec["groups"]),
        extra,
    }
}

#[async_trait]
impl SubresourceHandler for AccessReviews {
    fn serves(&self) -> &'static [&'static str] {
        &[
            "subjectaccessreviews.authorization.k8s.io",
            "localsubjectaccessreviews.authorization.k8s.io",
            "selfsubjectaccessreviews.authorization.k8s.io",
        ]
    }

    async fn handle(&self, _lookup: Arc<dyn Lookup>, request: SubresourceRequest) -> Result<Response, ApiError> {
        let kind = request.resource.kind;
        let mut review = read_object(request.request, API_VERSION, kind).await?;
        let is_self = kind == "SelfSubjectAccessReview";
        check(kind, &review)?;
        if kind == "LocalSubjectAccessReview" {
            let namespace = &review["spec"]["resourceAttributes"]["namespace"];
            if text(namespace) != request.namespace {
                return Err(ApiError::bad_request(format!(
                    "spec.resourceAttributes.namespace must match namespace: {}",
                    request.namespace
                )));
            }
        }
        let user = if is_self { request.user } else { subject(&review["spec"]) };
        let status = self.decide(&user, &review["spec"]).await;
        if !review["metadata"].is_object() {
            review["metadata"] = json!({});
        }
        review["status"] = status;
        Ok(created(request.accept, &review))
    }
}
