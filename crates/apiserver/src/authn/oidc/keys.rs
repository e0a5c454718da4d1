//! The keys that an identity provider signs with: found, read and used.

use std::{sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use rustls::ClientConfig;
use serde_json::Value;
use url::Url;

use crate::{
    contract::Body,
    json::{items, text},
    proxy::dial_tls,
};

const PATIENCE: Duration = Duration::from_secs(10);
const MAX_DOCUMENT_BYTES: usize = 1 << 20;
const MAX_KEYS: usize = 256;

/// A way of signing (RFC 7518). ES512 is none that the cryptographic library knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithm(&'static str);

const KNOWN: [&str; 8] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"];

pub fn known() -> [&'static str; 8] {
    KNOWN
}

impl Algorithm {
    pub fn parse(name: &str) -> Option<Self> {
        KNOWN.into_iter().find(|known| *known == name).map(Self)
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self.0 {
            "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
            "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
            "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
            "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
            "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
            "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
            _ => return None,
        })
    }

    /// With the name of the curve.
    fn ecdsa(self) -> Option<(&'static str, &'static dyn VerificationAlgorithm)> {
        match self.0 {
            "ES256" => Some(("P-256", &signature::ECDSA_P256_SHA256_FIXED)),
            "ES384" => Some(("P-384", &signature::ECDSA_P384_SHA384_FIXED)),
            _ => None,
        }
    }
}

#[derive(Debug)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec { curve: String, point: Vec<u8> },
}

#[derive(Debug)]
struct Key {
    id: String,
    /// Empty where the key is for all that it can do.
    algorithm: String,
    material: Material,
}

/// A JSON Web Key Set (RFC 7517).
#[derive(Debug)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// What is of another kind, or for encryption, is left out.
    pub fn parse(set: &Value) -> Self {
        Self(items(&set["keys"]).iter().take(MAX_KEYS).filter_map(Key::parse).collect())
    }

    pub fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id == id)
    }

    /// True where a key of that name made the signature; any key may have where there is no name.
    pub fn verify(&self, id: &str, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let candidates = self.0.iter().filter(|key| id.is_empty() || key.id == id);
        candidates.into_iter().any(|key| key.verify(algorithm, message, signature))
    }
}

impl Key {
    fn parse(key: &Value) -> Option<Self> {
        if !matches!(text(&key["use"]), "" | "sig") {
            return None;
        }
        let part = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(&key[name])).ok().filter(|part| !part.is_empty());
        let material = match text(&key["kty"]) {
            "RSA" => Material::Rsa { n: part("n")?, e: part("e")? },
            "EC" => Material::Ec {
                curve: text(&key["crv"]).to_owned(),
                // An uncompressed point: a 4, then x and y.
                point: [vec![4], part("x")?, part("y")?].concat(),
            },
            _ => return None,
        };
        Some(Self { id: text(&key["kid"]).to_owned(), algorithm: text(&key["alg"]).to_owned(), material })
    }

    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.algorithm.is_empty() && self.algorithm != algorithm.0 {
            return false;
        }
        match &self.material {
            Material::Rsa { n, e } => algorithm
                .rsa()
                .is_some_and(|rsa| RsaPublicKeyComponents { n, e }.verify(rsa, message, signature).is_ok()),
            Material::Ec { curve, point } => algorithm.ecdsa().is_some_and(|(name, ecdsa)| {
                name == curve && UnparsedPublicKey::new(ecdsa, point).verify(message, signature).is_ok()
            }),
        }
    }
}

/// Asks the provider where its keys are, and for them.
pub async fn fetch(issuer: &str, tls: &Arc<ClientConfig>) -> Result<Keys, String> {
    let discovery = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let document = get(&discovery, tls).await?;
    if text(&document["issuer"]) != issuer {
        let found = text(&document["issuer"]);
        return Err(format!(
            "oidc: issuer did not match the issuer returned by provider, expected {issuer:?} got {found:?}"
        ));
    }
    let set = get(text(&document["jwks_uri"]), tls).await?;
    Ok(Keys::parse(&set))
}

async fn get(url: &str, tls: &Arc<ClientConfig>) -> Result<Value, String> {
    let asking = async {
        let parsed = Url::parse(url).map_err(|error| format!("{url:?}: {error}"))?;
        let host = parsed.host_str().filter(|_| parsed.scheme() == "https");
        let host = host.ok_or_else(|| format!("{url:?} is no https URL"))?.trim_matches(['[', ']']);
        let port = parsed.port_or_known_default().unwrap_or(443);
        let mut sender = dial_tls(host, port, host, tls).await.map_err(|error| error.to_string())?;
        let target =
            parsed.query().map_or_else(|| parsed.path().to_owned(), |query| format!("{}?{query}", parsed.path()));
        let empty: Body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
        let authority = parsed.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let request = Request::get(target).header(header::HOST, authority).header(header::ACCEPT, "application/json");
        let request = request.body(empty).map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| format!("{url}: {error}"))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("{url}: {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), MAX_DOCUMENT_BYTES).collect().await;
        let body = body.map_err(|error| format!("{url}: {error}"))?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| format!("{url}: {error}"))
    };
    let slow = || format!("{url}: no answer within {} s", PATIENCE.as_secs());
    tokio::time::timeout(PATIENCE, asking).await.map_err(|_| slow())?
}
