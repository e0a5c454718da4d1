use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use knarr_api::status::ApiError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{denied, is_pod_creation};
use crate::Env;
use crate::builtin;
use crate::contract::{Admission, AdmissionRequest, Lookup};
use crate::json::{is_mirror_pod, items, items_mut, list_mut, text};

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Seven seconds over an hour: the number by which upstream tells tokens that it mounted itself.
const TOKEN_SECONDS: i64 = 3607;
/// The account of a new namespace is made by a controller, which needs a moment.
const RETRIES: u32 = 20;
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// What a pod takes from its account.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Account {
    automount_service_account_token: Option<bool>,
    image_pull_secrets: Vec<Value>,
}

/// Gives every pod a service account, and mounts its token, unless the pod or the account says otherwise.
pub struct ServiceAccount {
    lookup: Arc<dyn Lookup>,
    env: Env,
}

impl ServiceAccount {
    pub fn new(lookup: Arc<dyn Lookup>, env: Env) -> Self {
        Self { lookup, env }
    }

    async fn account(&self, namespace: &str, account: &str) -> Result<Option<Account>, ApiError> {
        let resource = builtin::service_accounts();
        if let Some(found) = self.lookup.get(resource, namespace, account) {
            return Ok(Some(found.read()));
        }
        for attempt in 0..=RETRIES {
            if attempt > 0 {
                tokio::time::sleep(RETRY_DELAY).await;
            }
            if let Some(found) = self.lookup.get_fresh(resource, namespace, account).await? {
                return Ok(Some(found.read()));
            }
            // Only the default account is on its way for sure.
            if account != "default" {
                break;
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Admission for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if !is_pod_creation(request) || is_mirror_pod(&request.object) || !request.object["spec"].is_object() {
            return Ok(());
        }
        let spec = &mut request.object["spec"];
        let wanted = match (text(&spec["serviceAccountName"]), text(&spec["serviceAccount"])) {
            ("", "") => "default".to_owned(),
            ("", old) => old.to_owned(),
            (name, _) => name.to_owned(),
        };
        spec["serviceAccountName"] = wanted.as_str().into();
        spec["serviceAccount"] = wanted.as_str().into();

        let namespace = request.namespace;
        let Some(account) = self.account(namespace, &wanted).await? else {
            let why =
                format!("error looking up service account {namespace}/{wanted}: serviceaccount \"{wanted}\" not found");
            return Err(denied(request, why));
        };
        let spec = &mut request.object["spec"];
        let own = spec["automountServiceAccountToken"].as_bool();
        if own.or(account.automount_service_account_token).unwrap_or(true) {
            mount_token(spec, &self.env);
        }
        if items(&spec["imagePullSecrets"]).is_empty() && !account.image_pull_secrets.is_empty() {
            spec["imagePullSecrets"] = account.image_pull_secrets.into();
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        if !is_pod_creation(request) || !is_mirror_pod(&request.object) {
            return Ok(());
        }
        let spec = &request.object["spec"];
        if !text(&spec["serviceAccountName"]).is_empty() {
            return Err(denied(request, "a mirror pod may not reference service accounts"));
        }
        let projects_token = |volume: &Value| {
            items(&volume["projected"]["sources"]).iter().any(|source| source.get("serviceAccountToken").is_some())
        };
        if items(&spec["volumes"]).iter().any(projects_token) {
            return Err(denied(request, "a mirror pod may not use ServiceAccountToken volume projections"));
        }
        Ok(())
    }
}

/// Mounts the token where a container has nothing at its path yet.
fn mount_token(spec: &mut Value, env: &Env) {
    let existing = items(&spec["volumes"]).iter().map(|volume| text(&volume["name"]));
    let existing: Vec<String> = existing.map(str::to_owned).collect();
    let own = existing.iter().find(|volume| volume.starts_with(VOLUME_PREFIX)).cloned();
    let is_new = own.is_none();
    let volume = own.unwrap_or_else(|| fresh_name(&existing, env));

    let mut is_used = false;
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list).iter_mut().filter(|container| container.is_object()) {
            if items(&container["volumeMounts"]).iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
                continue;
            }
            is_used = true;
            list_mut(container, "volumeMounts")
                .push(json!({ "name": volume, "readOnly": true, "mountPath": MOUNT_PATH }));
        }
    }
    if is_new && is_used {
        list_mut(spec, "volumes").push(token_volume(&volume));
    }
}

fn fresh_name(existing: &[String], env: &Env) -> String {
    loop {
        let candidate = knarr_api::meta::names::generate_name(VOLUME_PREFIX, env.random());
        if !existing.contains(&candidate) {
            return candidate;
        }
    }
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                { "serviceAccountToken": { "expirationSeconds": TOKEN_SECONDS, "path": "token" } },
                { "configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{ "key": "ca.crt", "path": "ca.crt" }],
                } },
                { "downwardAPI": { "items": [{
                    "path": "namespace",
                    "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" },
                }] } },
            ],
        },
    })
}
