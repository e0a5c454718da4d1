use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use knarr_api::registry::Resource;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Claims, Reference, TokenError, TokenIssuer};
use crate::Env;
use crate::builtin;
use crate::contract::{Lookup, Stored, UserInfo};

/// How many tokens are remembered as signed by us. Verifying a signature costs 50 us and more, looking it up
/// under 1 us; times and bindings are checked at every use all the same.
const MAX_REMEMBERED: usize = 8192;

/// Tells who a service account token speaks for.
pub struct TokenReviewer {
    issuer: Arc<TokenIssuer>,
    lookup: Arc<dyn Lookup>,
    env: Env,
    remembered: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

impl TokenReviewer {
    pub fn new(issuer: Arc<TokenIssuer>, lookup: Arc<dyn Lookup>, env: Env) -> Self {
        Self { issuer, lookup, env, remembered: Mutex::default() }
    }

    pub fn issuer(&self) -> &TokenIssuer {
        &self.issuer
    }

    /// Checks a token for a set of audiences (the API server's own where it is empty); yields who it speaks
    /// for, and which of the audiences it is good for.
    pub async fn review(&self, token: &str, audiences: &[String]) -> Result<(UserInfo, Vec<String>), TokenError> {
        let claims = self.open(token)?;
        let wanted = if audiences.is_empty() { self.issuer.audiences() } else { audiences };
        let common = claims.check(wanted, self.env.now())?;
        self.check_bindings(&claims).await?;
        Ok((user_of(&claims), common))
    }

    fn open(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(&digest) {
            return Ok(claims.clone());
        }
        let claims = Arc::new(self.issuer.open(token)?);
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MAX_REMEMBERED {
            let now = self.env.now().as_second();
            remembered.retain(|_, claims| claims.exp > now);
            if remembered.len() >= MAX_REMEMBERED {
                remembered.clear();
            }
        }
        remembered.insert(digest, claims.clone());
        Ok(claims)
    }

    /// What a token is bound to must exist, be the same object still, and not be on its way out for good.
    async fn check_bindings(&self, claims: &Claims) -> Result<(), TokenError> {
        let bound = &claims.bound;
        let namespace = bound.namespace.as_str();
        self.check(builtin::service_accounts(), namespace, &bound.serviceaccount, "service account").await?;
        if let Some(pod) = &bound.pod {
            self.check(builtin::pods(), namespace, pod, "pod").await?;
        }
        if let Some(secret) = &bound.secret {
            self.check(builtin::secrets(), namespace, secret, "secret").await?;
        }
        // A token that is bound to a pod names the pod's node for information only.
        if let (None, Some(node)) = (&bound.pod, &bound.node) {
            self.check(builtin::nodes(), "", node, "node").await?;
        }
        Ok(())
    }

    async fn check(
        &self,
        resource: &'static Resource,
        namespace: &str,
        wanted: &Reference,
        what: &str,
    ) -> Result<(), TokenError> {
        let gone = |why: &str| TokenError::Gone(format!("the token's {what} {namespace}/{} {why}", wanted.name));
        let is_it = |metadata: &Metadata| metadata.uid == wanted.uid;
        let cached = self.lookup.get(resource, namespace, &wanted.name).map(|stored| Metadata::of(&stored));
        let metadata = match cached.filter(is_it) {
            Some(metadata) => metadata,
            // The cache may lag behind a write that was just acknowledged, such as the object's creation.
            None => {
                let fresh = self.lookup.get_fresh(resource, namespace, &wanted.name).await;
                let fresh = fresh.map_err(|_| gone("could not be looked up"))?;
                Metadata::of(&*fresh.ok_or_else(|| gone("does not exist"))?)
            }
        };
        if !is_it(&metadata) {
            return Err(gone("was replaced by another of the same name"));
        }
        if metadata.is_past_grace(&self.env) {
            return Err(gone("has been deleted"));
        }
        Ok(())
    }
}

/// The two fields that are asked for; every request with a token reads a Pod for them, which need not become a
/// whole tree.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    uid: String,
    deletion_timestamp: Option<jiff::Timestamp>,
}

impl Metadata {
    fn of(stored: &Stored) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Object {
            metadata: Metadata,
        }
        // Stored bytes are valid; an object without a uid would match no token.
        serde_json::from_slice::<Object>(&stored.json).unwrap_or_default().metadata
    }

    /// A deleted object's tokens are good for a minute after its deletion timestamp, as its last words need them.
    fn is_past_grace(&self, env: &Env) -> bool {
        self.deletion_timestamp.is_some_and(|at| env.now().as_second() > at.as_second() + 60)
    }
}

fn user_of(claims: &Claims) -> UserInfo {
    let bound = &claims.bound;
    let mut extra = BTreeMap::new();
    let mut note = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        note("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(pod) = &bound.pod {
        note("pod-name", &pod.name);
        note("pod-uid", &pod.uid);
    }
    if let Some(node) = &bound.node {
        note("node-name", &node.name);
        note("node-uid", &node.uid);
    }
    UserInfo {
        name: claims.sub.clone(),
        uid: bound.serviceaccount.uid.clone(),
        groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{}", bound.namespace)],
        extra,
    }
}
