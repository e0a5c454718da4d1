use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::field::{FieldError, FieldPath};
use knarr_api::registry::Resource;
use knarr_api::status::ApiError;
use serde_json::{Value, json};

use super::reply::{created, read_object};
use crate::Env;
use crate::admission::check_token_request;
use crate::authz::node_name_of;
use crate::builtin;
use crate::contract::{Ask, Lookup, Operation, Response, SubresourceHandler, SubresourceRequest, UserInfo};
use crate::json::{items, name, text};
use crate::tokens::{Bound, Reference, TokenReviewer, TokenSpec};

const API_VERSION: &str = "authentication.k8s.io/v1";
const DEFAULT_SECONDS: i64 = 60 * 60;
const MIN_SECONDS: i64 = 10 * 60;
const MAX_SECONDS: i64 = 1 << 32;

/// Makes tokens of a service account: `serviceaccounts/token`.
pub struct TokenRequests {
    tokens: Arc<TokenReviewer>,
    env: Env,
}

impl TokenRequests {
    pub fn new(tokens: Arc<TokenReviewer>, env: Env) -> Self {
        Self { tokens, env }
    }

    async fn make(
        &self,
        lookup: &dyn Lookup,
        user: &UserInfo,
        namespace: &str,
        account: &str,
        mut wanted: Value,
    ) -> Result<Value, ApiError> {
        let lifetime_seconds = check_spec(&wanted)?;
        let found = fetch(lookup, builtin::service_accounts(), namespace, account).await?;
        let mut bound =
            Bound { namespace: namespace.to_owned(), serviceaccount: reference(&found), ..Bound::default() };
        let wish = &wanted["spec"]["boundObjectRef"];
        if let Some(node) = node_name_of(user) {
            check_token_request(lookup, node, namespace, account, wish)?;
        }
        if wish.is_object() {
            bind(lookup, &mut bound, account, wish).await?;
        }
        let audiences = items(&wanted["spec"]["audiences"]).iter().map(|a| text(a).to_owned()).collect();
        let spec = TokenSpec { bound, audiences, lifetime_seconds };
        let issuer = self.tokens.issuer();
        let (token, claims) = issuer
            .issue(&spec, self.env.uid().to_string(), self.env.now())
            .map_err(|error| ApiError::internal(format!("the token could not be signed: {error}")))?;

        let at = |seconds: i64| jiff::Timestamp::from_second(seconds).map(knarr_api::time::seconds).unwrap_or_default();
        wanted["metadata"] = json!({ "name": account, "namespace": namespace, "creationTimestamp": at(claims.iat) });
        wanted["spec"]["audiences"] = json!(claims.aud);
        wanted["spec"]["expirationSeconds"] = lifetime_seconds.into();
        wanted["status"] = json!({ "token": token, "expirationTimestamp": at(claims.exp) });
        Ok(wanted)
    }
}

fn check_spec(request: &Value) -> Result<i64, ApiError> {
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    let why = match seconds {
        ..MIN_SECONDS => "may not specify a duration less than 10 minutes",
        MAX_SECONDS.. => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(seconds),
    };
    let root = FieldPath::new("spec");
    let error = FieldError::invalid(&root.child("expirationSeconds"), seconds, why);
    Err(ApiError::invalid("TokenRequest.authentication.k8s.io", "", vec![error]))
}

async fn fetch(
    lookup: &dyn Lookup,
    resource: &'static Resource,
    namespace: &str,
    name: &str,
) -> Result<Value, ApiError> {
    let found = lookup.get_fresh(resource, namespace, name).await?;
    found.map(|stored| stored.value()).ok_or_else(|| ApiError::not_found(&resource.qualified_name(), name))
}

fn reference(object: &Value) -> Reference {
    Reference { name: name(object).to_owned(), uid: text(&object["metadata"]["uid"]).to_owned() }
}

/// Ties a token to the object it is to die with.
async fn bind(lookup: &dyn Lookup, bound: &mut Bound, account: &str, wish: &Value) -> Result<(), ApiError> {
    let (kind, wanted) = (text(&wish["kind"]), text(&wish["name"]));
    let namespace = bound.namespace.clone();
    let object = match (text(&wish["apiVersion"]), kind) {
        ("v1" | "", "Pod") => {
            let pod = fetch(lookup, builtin::pods(), &namespace, wanted).await?;
            if pod["spec"]["serviceAccountName"] != account {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            bound.pod = Some(reference(&pod));
            if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
                // The node's uid is told where it is known; the token does not depend on it.
                let uid = lookup.get(builtin::nodes(), "", node).map(|stored| reference(&stored.value()).uid);
                bound.node = Some(Reference { name: node.to_owned(), uid: uid.unwrap_or_default() });
            }
            pod
        }
        ("v1" | "", "Secret") => {
            let secret = fetch(lookup, builtin::secrets(), &namespace, wanted).await?;
            bound.secret = Some(reference(&secret));
            secret
        }
        ("v1" | "", "Node") => {
            let node = fetch(lookup, builtin::nodes(), "", wanted).await?;
            bound.node = Some(reference(&node));
            node
        }
        (api_version, kind) => {
            return Err(ApiError::bad_request(format!(
                "cannot bind token to object of type {api_version}, Kind={kind}"
            )));
        }
    };
    let (uid, record) = (text(&wish["uid"]), text(&object["metadata"]["uid"]));
    if !uid.is_empty() && uid != record {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        );
        return Err(ApiError::conflict(kind, wanted, why));
    }
    Ok(())
}

#[async_trait]
impl SubresourceHandler for TokenRequests {
    fn serves(&self) -> &'static [&'static str] {
        &["serviceaccounts/token"]
    }

    async fn handle(&self, lookup: Arc<dyn Lookup>, request: SubresourceRequest) -> Result<Response, ApiError> {
        let SubresourceRequest {
            resource, subresource, namespace, name: account, user, dry_run, accept, request, ..
        } = request;
        let wanted = read_object(request, API_VERSION, "TokenRequest").await?;
        let given = name(&wanted);
        if !given.is_empty() && given != account {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({account})"
            )));
        }
        let mut wanted = wanted;
        if !wanted["spec"].is_object() {
            wanted["spec"] = json!({});
        }
        let ask = Ask {
            user: &user,
            operation: Operation::Create,
            resource,
            subresource,
            namespace: &namespace,
            name: &account,
            dry_run,
        };
        let wanted = lookup.admit(ask, wanted).await?;
        Ok(created(accept, &self.make(&*lookup, &user, &namespace, &account, wanted).await?))
    }
}
