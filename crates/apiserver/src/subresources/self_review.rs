use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::status::ApiError;
use serde_json::{Map, Value, json};

use super::reply::{created, read_object};
use crate::authz::{Rbac, Rule, node_name_of};
use crate::contract::{Lookup, Response, SubresourceHandler, SubresourceRequest, UserInfo};
use crate::json::text;

/// Who am I and what may I do: SelfSubjectReview and SelfSubjectRulesReview.
pub struct SelfReviews {
    rbac: Arc<Rbac>,
}

impl SelfReviews {
    pub fn new(rbac: Arc<Rbac>) -> Self {
        Self { rbac }
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> Value {
        let mut resource_rules = Vec::new();
        let mut path_rules = Vec::new();
        for rule in self.rbac.rules_for(user, namespace) {
            let Rule { api_groups, non_resource_urls, resource_names, resources, verbs } = rule;
            if !resources.is_empty() {
                let mut entry = json!({ "verbs": verbs, "apiGroups": api_groups, "resources": resources });
                if !resource_names.is_empty() {
                    entry["resourceNames"] = json!(resource_names);
                }
                resource_rules.push(entry);
            }
            if !non_resource_urls.is_empty() {
                path_rules.push(json!({ "verbs": verbs, "nonResourceURLs": non_resource_urls }));
            }
        }
        let mut status =
            json!({ "resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": false });
        if node_name_of(user).is_some() {
            // What the Node authoriser allows depends on pods and cannot be listed.
            status["incomplete"] = true.into();
            status["evaluationError"] = "node authorizer does not support user rule resolution".into();
        }
        status
    }
}

/// A user as the authentication API shows it.
pub(super) fn user_value(user: &UserInfo) -> Value {
    let mut value = Map::new();
    value.insert("username".into(), user.name.as_str().into());
    if !user.uid.is_empty() {
        value.insert("uid".into(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        value.insert("groups".into(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        value.insert("extra".into(), json!(user.extra));
    }
    value.into()
}

#[async_trait]
impl SubresourceHandler for SelfReviews {
    fn serves(&self) -> &'static [&'static str] {
        &["selfsubjectrulesreviews.authorization.k8s.io", "selfsubjectreviews.authentication.k8s.io"]
    }

    async fn handle(&self, _lookup: Arc<dyn Lookup>, request: SubresourceRequest) -> Result<Response, ApiError> {
        let (kind, api_version) = (request.resource.kind, request.resource.api_version());
        let mut review = read_object(request.request, &api_version, kind).await?;
        let status = if kind == "SelfSubjectReview" {
            json!({ "userInfo": user_value(&request.user) })
        } else {
            let namespace = text(&review["spec"]["namespace"]);
            if namespace.is_empty() {
                return Err(ApiError::bad_request("no namespace on request"));
            }
            self.rules(&request.user, namespace)
        };
        if !review["metadata"].is_object() {
            review["metadata"] = json!({});
        }
        review["status"] = status;
        Ok(created(request.accept, &review))
    }
}
