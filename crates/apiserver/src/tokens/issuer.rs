use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Bound, Claims, KeyError, SigningKey, service_account_user};

/// Longer than any token made here; what is longer is not read.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Why a token is not accepted. The text goes to the log, never to the client.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// Not one of ours at all: another authenticator may know it.
    #[error("the token is not a service account token of this cluster")]
    Foreign,
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    #[error("the token's signature does not hold")]
    Signature,
    #[error("the token ended {seconds} s ago")]
    Expired { seconds: i64 },
    #[error("the token is not valid yet; check the clocks")]
    NotYet,
    #[error("the token is for {found:?}, not for {wanted:?}")]
    Audience { found: Vec<String>, wanted: Vec<String> },
    #[error("{0}")]
    Gone(String),
}

/// What a token is to say.
#[derive(Clone, Debug)]
pub struct TokenSpec {
    pub bound: Bound,
    /// The API server's own where it is empty.
    pub audiences: Vec<String>,
    pub lifetime_seconds: i64,
}

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    alg: &'a str,
    #[serde(default)]
    kid: &'a str,
}

/// Makes tokens, and reads those it made.
#[derive(Debug)]
pub struct TokenIssuer {
    key: SigningKey,
    issuer: String,
    audiences: Vec<String>,
}

impl TokenIssuer {
    /// `issuer` is a URL; `audiences` are the names the API server itself answers to, `issuer` if none is given.
    pub fn new(key: SigningKey, issuer: impl Into<String>, audiences: Vec<String>) -> Self {
        let issuer = issuer.into();
        let audiences = if audiences.is_empty() { vec![issuer.clone()] } else { audiences };
        Self { key, issuer, audiences }
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Makes a token; `id` is unique to it (a uuid).
    pub fn issue(&self, spec: &TokenSpec, id: String, now: Timestamp) -> Result<(String, Claims), KeyError> {
        let now = now.as_second();
        let claims = Claims {
            aud: if spec.audiences.is_empty() { self.audiences.clone() } else { spec.audiences.clone() },
            exp: now + spec.lifetime_seconds,
            iat: now,
            iss: self.issuer.clone(),
            jti: id,
            sub: service_account_user(&spec.bound.namespace, &spec.bound.serviceaccount.name),
            bound: spec.bound.clone(),
            nbf: now,
        };
        let header = Header { alg: "ES256", kid: self.key.key_id() };
        let mut token = encode(&header);
        token.push('.');
        token.push_str(&encode(&claims));
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        token.push_str(&BASE64_URL_SAFE_NO_PAD.encode(signature));
        Ok((token, claims))
    }

    /// Reads a token of ours and checks its signature; times, audiences and bindings are not looked at.
    pub fn open(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Foreign);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Foreign)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Foreign)?;
        let header = decode(header)?;
        let header: Header<'_> = serde_json::from_slice(&header).map_err(|_| TokenError::Malformed("header"))?;
        if header.alg != "ES256" || (!header.kid.is_empty() && header.kid != self.key.key_id()) {
            return Err(TokenError::Foreign);
        }
        let signature = decode(signature)?;
        if !self.key.verify(signed.as_bytes(), &signature) {
            return Err(TokenError::Signature);
        }
        let claims: Claims = serde_json::from_slice(&decode(payload)?).map_err(|_| TokenError::Malformed("claims"))?;
        if claims.iss != self.issuer {
            return Err(TokenError::Foreign);
        }
        Ok(claims)
    }
}

impl Claims {
    /// Checks times and audiences; yields the audiences that both sides know.
    pub fn check(&self, wanted: &[String], now: Timestamp) -> Result<Vec<String>, TokenError> {
        let now = now.as_second();
        if now >= self.exp {
            return Err(TokenError::Expired { seconds: now - self.exp });
        }
        // Tokens are made and read by the same clock or by neighbours; a few seconds are forgiven.
        if now + 10 < self.nbf {
            return Err(TokenError::NotYet);
        }
        let common: Vec<String> = self.aud.iter().filter(|a| wanted.contains(a)).cloned().collect();
        if common.is_empty() {
            return Err(TokenError::Audience { found: self.aud.clone(), wanted: wanted.to_vec() });
        }
        Ok(common)
    }
}

fn encode(part: &impl Serialize) -> String {
    // Strings, numbers and lists of them always serialise.
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).unwrap_or_default())
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed("base64"))
}
