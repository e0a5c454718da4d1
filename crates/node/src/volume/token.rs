//! Service account tokens for projected volumes, asked for by TokenRequest, bound to the pod, and renewed when
//! four fifths of their life are over (or a day, for the long-lived).

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
        core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::api::{Api, PostParams};

use super::VolumeError;

const DEFAULT_SECONDS: i64 = 3600;
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

type Key = (String, i64);

/// A token of the pod's service account for one audience, and when it ends.
pub async fn request_token(
    client: &kube::Client,
    pod: &Pod,
    audience: &str,
    seconds: Option<i64>,
    now: Timestamp,
) -> Result<(String, Timestamp), kube::Error> {
    let key = (audience.to_owned(), seconds.unwrap_or(DEFAULT_SECONDS));
    request(client, pod, &key, now).await.map(|token| (token.text, token.expires_at))
}

#[derive(Default)]
pub struct Tokens {
    held: HashMap<Key, Token>,
}

struct Token {
    text: String,
    renew_at: Timestamp,
    expires_at: Timestamp,
}

fn key(source: &ServiceAccountTokenProjection) -> Key {
    (source.audience.clone().unwrap_or_default(), source.expiration_seconds.unwrap_or(DEFAULT_SECONDS))
}

impl Tokens {
    pub fn get(&self, source: &ServiceAccountTokenProjection) -> Option<&str> {
        self.held.get(&key(source)).map(|token| token.text.as_str())
    }

    pub fn renew_at(&self) -> Option<Timestamp> {
        self.held.values().map(|token| token.renew_at).min()
    }

    /// Asks for what is missing or old. An old token that still holds is kept where the API does not answer.
    pub async fn refresh(&mut self, client: &kube::Client, pod: &Pod, now: Timestamp) -> Result<(), VolumeError> {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        for volume in volumes {
            let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
            for source in sources.filter_map(|source| source.service_account_token.as_ref()) {
                let key = key(source);
                let held = self.held.get(&key);
                if held.is_some_and(|token| token.renew_at > now) {
                    continue;
                }
                match request(client, pod, &key, now).await {
                    Ok(token) => _ = self.held.insert(key, token),
                    Err(error) if held.is_some_and(|token| token.expires_at > now) => {
                        tracing::warn!(volume = volume.name, %error, "cannot renew a service account token; will retry");
                        if let Some(token) = self.held.get_mut(&key) {
                            token.renew_at = now + SignedDuration::from_secs(10);
                        }
                    }
                    Err(error) => {
                        let cause = format!("failed to fetch token: {}", knarr_client::errors::message(&error));
                        return Err(VolumeError::SetUp { volume: volume.name.clone(), cause });
                    }
                }
            }
        }
        Ok(())
    }
}

async fn request(client: &kube::Client, pod: &Pod, key: &Key, now: Timestamp) -> Result<Token, kube::Error> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let (audience, seconds) = key;
    let request = TokenRequest {
        metadata: ObjectMeta::default(),
        spec: Some(TokenRequestSpec {
            audiences: (!audience.is_empty()).then(|| vec![audience.clone()]),
            expiration_seconds: Some(*seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        }),
        status: None,
    };
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let answer = api.create_token_request(account, &PostParams::default(), &request).await?;
    let status = answer.status.unwrap_or_default();
    let expires_at = status.expiration_timestamp.map_or(now, |time| time.0);
    let life = expires_at.duration_since(now);
    Ok(Token { text: status.token.unwrap_or_default(), renew_at: now + (life * 4 / 5).min(LONGEST), expires_at })
}
