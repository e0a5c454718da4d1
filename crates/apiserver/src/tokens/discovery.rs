use std::sync::Arc;

use async_trait::async_trait;
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::TokenIssuer;
use crate::{
    codec::respond,
    contract::{Body, Response},
    server::PathHandler,
};

const CONFIGURATION: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

/// Serves both documents; who may read them is the authoriser's to say.
pub struct IssuerDiscovery(pub Arc<TokenIssuer>);

#[async_trait]
impl PathHandler for IssuerDiscovery {
    fn paths(&self) -> &'static [&'static str] {
        &[CONFIGURATION, KEYS]
    }

    async fn handle(&self, request: http::Request<Body>) -> Response {
        let (document, content_type) = match request.uri().path() {
            CONFIGURATION => (discovery_document(&self.0), "application/json"),
            _ => (key_set(&self.0), "application/jwk-set+json"),
        };
        let mut response = respond::with_type(StatusCode::OK, content_type, document.to_string());
        let an_hour = http::HeaderValue::from_static("public, max-age=3600");
        response.headers_mut().insert(header::CACHE_CONTROL, an_hour);
        response
    }
}

/// `/.well-known/openid-configuration`: lets others verify this cluster's tokens (OpenID Connect Discovery 1.0).
pub fn discovery_document(issuer: &TokenIssuer) -> Value {
    let base = issuer.issuer().trim_end_matches('/');
    json!({
        "issuer": issuer.issuer(),
        "jwks_uri": format!("{base}/openid/v1/jwks"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

/// `/openid/v1/jwks`: the public keys (RFC 7517).
pub fn key_set(issuer: &TokenIssuer) -> Value {
    json!({ "keys": [issuer.key().public_jwk()] })
}
