use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::field::{FieldError, FieldPath};
use knarr_api::status::ApiError;
use serde_json::{Map, Value, json};

use super::reply::{created, read_object};
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
        let attributes = attributes(user, spec);
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

fn attributes<'a>(user: &'a UserInfo, spec: &'a Value) -> Attributes<'a> {
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
        field_selector: text(&resource["fieldSelector"]["rawSelector"]),
        path: "",
        is_resource: true,
    }
}

/// What a review must say; `for_others` where it names whom it is about.
fn check(kind: &str, spec: &Value, for_others: bool) -> Result<(), ApiError> {
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
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(&format!("{kind}.authorization.k8s.io"), "", errors))
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
        check(kind, &review["spec"], !is_self)?;
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
