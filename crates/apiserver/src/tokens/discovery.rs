use serde_json::{Value, json};

use super::TokenIssuer;

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
