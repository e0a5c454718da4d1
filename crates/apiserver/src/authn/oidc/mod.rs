//! Users whom an identity provider vouches for: ID tokens of OpenID Connect.
//! (<https://kubernetes.io/docs/reference/access-authn-authz/authentication/#openid-connect-tokens>)
//!
//! The provider's keys are fetched when the first of its tokens comes, and again when one names a key that is not among
//! them, but not more often than every few seconds: whoever makes up names of keys must not make the server ask.

mod claims;
mod keys;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use super::bearer_token;
use crate::{
    Env,
    contract::{AuthenticationError, Authenticator, Credentials, UserInfo},
    json::text,
    pki::{Trust, anonymous_client},
};
use keys::{Algorithm, Keys};

/// How long is waited at least between two times of asking the provider.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Longer tokens are none.
const MAX_TOKEN_BYTES: usize = 64 << 10;

/// What the `--oidc-*` options say.
#[derive(Clone, Debug, Default)]
pub struct OidcConfig {
    pub issuer_url: String,
    pub client_id: String,
    /// `sub` where it is empty.
    pub username_claim: String,
    /// The issuer and `#` where it is `None` and the claim is not `email`; `-` is none at all.
    pub username_prefix: Option<String>,
    pub groups_claim: String,
    pub groups_prefix: String,
    pub required_claims: BTreeMap<String, String>,
    /// PEM of the authorities that the provider's certificate may be of; those of the host where there are none.
    pub authorities: Option<String>,
    /// RS256 where it is empty.
    pub signing_algorithms: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    #[error("oidc-issuer-url {0:?} is not a URL: {1}")]
    Url(String, url::ParseError),
    #[error("oidc-issuer-url {0:?} has invalid scheme ({1}), require 'https'")]
    Scheme(String, String),
    #[error("oidc-client-id must be set with oidc-issuer-url")]
    ClientId,
    #[error("oidc-signing-algs: {0:?} is not supported; there are {known}", known = keys::known().join(", "))]
    Algorithm(String),
    #[error("oidc-ca-file")]
    Authorities(#[source] crate::pki::PkiError),
}

/// Checks the ID tokens of one provider.
pub struct Oidc {
    config: OidcConfig,
    algorithms: Vec<Algorithm>,
    tls: Arc<ClientConfig>,
    env: Env,
    keys: ArcSwapOption<Keys>,
    /// When the provider was asked last. Who holds it asks, and everybody else waits for what comes of it.
    asked: Mutex<Option<Instant>>,
}

impl Oidc {
    pub fn new(mut config: OidcConfig, env: Env) -> Result<Self, OidcError> {
        let url = Url::parse(&config.issuer_url).map_err(|why| OidcError::Url(config.issuer_url.clone(), why))?;
        if url.scheme() != "https" {
            return Err(OidcError::Scheme(config.issuer_url, url.scheme().to_owned()));
        }
        if config.client_id.is_empty() {
            return Err(OidcError::ClientId);
        }
        if config.username_claim.is_empty() {
            config.username_claim = "sub".into();
        }
        if config.signing_algorithms.is_empty() {
            config.signing_algorithms.push("RS256".into());
        }
        let algorithm = |name: &String| Algorithm::parse(name).ok_or_else(|| OidcError::Algorithm(name.clone()));
        let algorithms = config.signing_algorithms.iter().map(algorithm).collect::<Result<_, _>>()?;
        let trust = config.authorities.as_deref().map_or(Trust::System, |pem| Trust::Bundle(pem.as_bytes()));
        let tls = Arc::new(anonymous_client(trust).map_err(OidcError::Authorities)?);
        Ok(Self { config, algorithms, tls, env, keys: ArcSwapOption::empty(), asked: Mutex::default() })
    }

    /// Whom a token of this provider speaks for; `None` for all others.
    async fn review(&self, token: &str) -> Result<Option<UserInfo>, String> {
        let Some(parsed) = Token::parse(token) else { return Ok(None) };
        if text(&parsed.claims["iss"]) != self.config.issuer_url {
            return Ok(None);
        }
        let name = text(&parsed.header["alg"]);
        let algorithm = Algorithm::parse(name).filter(|algorithm| self.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or_else(|| {
            format!(
                "id token signed with unsupported algorithm, expected {:?} got {name:?}",
                self.config.signing_algorithms
            )
        })?;
        self.verify(&parsed, algorithm).await?;
        claims::check_times(&parsed.claims, self.env.now())?;
        claims::check_audience(&parsed.claims, &self.config.client_id)?;
        claims::user(&self.config, &parsed.claims).map(Some)
    }

    async fn verify(&self, token: &Token<'_>, algorithm: Algorithm) -> Result<(), String> {
        let key = text(&token.header["kid"]);
        let holds = |keys: &Keys| keys.verify(key, algorithm, token.signed.as_bytes(), &token.signature);
        let known = self.keys.load_full();
        if known.as_ref().is_some_and(|keys| holds(keys)) {
            return Ok(());
        }
        // A key that is known and does not fit is a forgery, and no reason to ask.
        if known.as_ref().is_some_and(|keys| !key.is_empty() && keys.has(key)) {
            return Err("failed to verify id token signature".into());
        }
        let fresh = self.ask(known.as_ref()).await?;
        if holds(&fresh) { Ok(()) } else { Err("failed to verify id token signature".into()) }
    }

    /// The provider's keys, newer than those that were seen, if it may be asked.
    async fn ask(&self, seen: Option<&Arc<Keys>>) -> Result<Arc<Keys>, String> {
        let mut asked = self.asked.lock().await;
        let now = self.keys.load_full();
        let is_same = |one: &Arc<Keys>| seen.is_some_and(|seen| Arc::ptr_eq(seen, one));
        if let Some(newer) = now.as_ref().filter(|keys| !is_same(keys)) {
            return Ok(newer.clone());
        }
        if asked.is_some_and(|at| at.elapsed() < ASK_AGAIN) {
            return now
                .ok_or_else(|| "authenticator not initialized: the issuer could not be asked for its keys".into());
        }
        *asked = Some(Instant::now());
        match keys::fetch(&self.config.issuer_url, &self.tls).await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                self.keys.store(Some(keys.clone()));
                Ok(keys)
            }
            Err(why) => {
                tracing::warn!(issuer = self.config.issuer_url, why, "the identity provider's keys cannot be fetched");
                now.ok_or_else(|| format!("authenticator not initialized: {why}"))
            }
        }
    }
}

#[async_trait]
impl Authenticator for Oidc {
    async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Option<UserInfo>, AuthenticationError> {
        let Some(token) = bearer_token(credentials.headers) else { return Ok(None) };
        self.review(&token).await.map_err(|why| AuthenticationError::Rejected(format!("oidc: {why}")))
    }
}

/// All that is done with a token before and after its provider is asked for keys.
#[cfg(fuzzing)]
pub(crate) fn check(token: &str, keys: &Value) {
    let keys = Keys::parse(keys);
    let Some(parsed) = Token::parse(token) else { return };
    if let Some(algorithm) = Algorithm::parse(text(&parsed.header["alg"])) {
        keys.verify(text(&parsed.header["kid"]), algorithm, parsed.signed.as_bytes(), &parsed.signature);
    }
    let _ = claims::check_times(&parsed.claims, jiff::Timestamp::UNIX_EPOCH);
    let _ = claims::check_audience(&parsed.claims, "fuzz");
}

/// A token taken apart, and believed in nothing.
struct Token<'a> {
    header: Value,
    claims: Value,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    fn parse(token: &'a str) -> Option<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json = |part: &str| serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        Some(Self { header: json(header)?, claims: json(claims)?, signed, signature })
    }
}
