use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use knarr_api::status::ApiError;
use serde_json::{Value, json};

use super::{denied, is_main};
use crate::Env;
use crate::builtin;
use crate::contract::{Admission, AdmissionRequest, Lookup, Operation};
use crate::json::{annotation, name, text};
use crate::tokens::{Bound, Reference, TokenReviewer, TokenSpec};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// Such a token lives as long as its Secret; a number of years stands for that.
const LIFETIME_SECONDS: i64 = 100 * 365 * 24 * 60 * 60;

/// Puts a token into a Secret that asks for one by its type
/// (<https://kubernetes.io/docs/concepts/configuration/secret/#serviceaccount-token-secrets>). Upstream leaves
/// that to a controller; here the key that signs is the API server's alone, and the Secret is complete at once.
pub struct TokenSecrets {
    lookup: Arc<dyn Lookup>,
    tokens: Arc<TokenReviewer>,
    env: Env,
}

impl TokenSecrets {
    pub fn new(lookup: Arc<dyn Lookup>, tokens: Arc<TokenReviewer>, env: Env) -> Self {
        Self { lookup, tokens, env }
    }

    /// The certificate authority, as the cluster publishes it.
    fn authority(&self) -> Option<String> {
        let stored = self.lookup.get(builtin::config_maps(), "kube-system", "extension-apiserver-authentication")?;
        stored.value()["data"]["client-ca-file"].as_str().map(str::to_owned)
    }

    fn token(&self, secret: &Value, namespace: &str, account: &Value) -> Result<String, ApiError> {
        let reference = |object: &Value| Reference {
            name: name(object).to_owned(),
            uid: text(&object["metadata"]["uid"]).to_owned(),
        };
        let bound = Bound {
            namespace: namespace.to_owned(),
            serviceaccount: reference(account),
            secret: Some(reference(secret)),
            ..Bound::default()
        };
        let spec = TokenSpec { bound, audiences: Vec::new(), lifetime_seconds: LIFETIME_SECONDS };
        let issued = self.tokens.issuer().issue(&spec, self.env.uid().to_string(), self.env.now());
        let (token, _) =
            issued.map_err(|error| ApiError::internal(format!("the token could not be signed: {error}")))?;
        Ok(token)
    }
}

#[async_trait]
impl Admission for TokenSecrets {
    fn name(&self) -> &'static str {
        "ServiceAccountTokenSecret"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let is_new = request.operation == Operation::Create && is_main(request, "", "secrets");
        // A token is bound to its Secret's name, so the name must be known.
        if !is_new || request.object["type"] != TYPE || request.name.is_empty() {
            return Ok(());
        }
        let wanted = annotation(&request.object, ACCOUNT).to_owned();
        if wanted.is_empty() || request.object["data"].get("token").is_some() {
            return Ok(());
        }
        let found = self.lookup.get_fresh(builtin::service_accounts(), request.namespace, &wanted).await?;
        let Some(account) = found.map(|stored| stored.value()) else {
            let why = format!("service account {}/{wanted} not found; create it before its token", request.namespace);
            return Err(denied(request, why));
        };
        let token = self.token(&request.object, request.namespace, &account)?;
        let secret = &mut request.object;
        secret["metadata"]["annotations"][ACCOUNT_UID] = account["metadata"]["uid"].clone();
        if !secret["data"].is_object() {
            secret["data"] = json!({});
        }
        secret["data"]["token"] = BASE64_STANDARD.encode(token).into();
        secret["data"]["namespace"] = BASE64_STANDARD.encode(request.namespace).into();
        if let Some(authority) = self.authority() {
            secret["data"]["ca.crt"] = BASE64_STANDARD.encode(authority).into();
        }
        Ok(())
    }
}
