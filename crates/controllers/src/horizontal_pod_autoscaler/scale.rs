//! The `scale` subresource of whatever an autoscaler is for.

use http::{Method, Request};
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use knarr_client::errors;
use serde_json::Value;

use crate::common::discovery;

/// How many pods something has and wants, and which ones they are.
pub struct Target {
    path: String,
    object: Value,
    pub replicas: i32,
    pub selector: String,
}

/// Reads it; the error is what a person is told.
pub async fn get(
    client: &kube::Client,
    namespace: &str,
    reference: &CrossVersionObjectReference,
) -> Result<Target, String> {
    let version = reference.api_version.as_deref().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let served = discovery::all(client).await.map_err(|error| errors::message(&error))?;
    let found = served.iter().find(|served| served.group == group && served.kind == reference.kind);
    let resource = found.ok_or_else(|| format!("no matches for kind {:?} in group {group:?}", reference.kind))?;
    let path = format!("{}/scale", resource.object_path(namespace, &reference.name));
    let request = Request::get(&path).body(Vec::new()).map_err(|error| error.to_string())?;
    let object: Value = client.request(request).await.map_err(|error| errors::message(&error))?;
    let replicas = object["spec"]["replicas"].as_i64().and_then(|count| i32::try_from(count).ok()).unwrap_or(0);
    let selector = object["status"]["selector"].as_str().unwrap_or_default().to_owned();
    Ok(Target { path, object, replicas, selector })
}

impl Target {
    /// Asks for another number of pods; fails where somebody else was faster.
    pub async fn set(&self, client: &kube::Client, replicas: i32) -> Result<(), String> {
        let mut object = self.object.clone();
        object["spec"]["replicas"] = replicas.into();
        let sent = discovery::send(client, Method::PUT, &self.path, "application/json", Some(object)).await;
        match sent {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("it is gone".into()),
            Err(error) => Err(errors::message(&error)),
        }
    }
}
