//! The Metrics API's objects, handed from their collector to the API server.

use std::{sync::Arc, time::Duration};

use knarr_api::{registry::Resource, status::ApiError};
use knarr_apiserver::contract::ObjectSource;
use knarr_client::{Clock, Informers, supervise};
use knarr_metrics::{Config, Metrics};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// As the service account of the usual add-on is called.
pub const USER: &str = "metrics-server";

pub struct MetricsSource(pub Arc<Metrics>);

impl ObjectSource for MetricsSource {
    fn serves(&self) -> (&'static str, &'static str) {
        (knarr_metrics::GROUP, knarr_metrics::VERSION)
    }

    fn objects(&self, resource: &'static Resource, namespace: &str, name: &str) -> Result<Vec<Value>, ApiError> {
        Ok(if resource.namespaced { self.0.pods(namespace, name) } else { self.0.nodes(name) })
    }

    fn not_found(&self, resource: &'static Resource, namespace: &str, name: &str) -> ApiError {
        match resource.namespaced {
            true => ApiError::not_found("podmetrics.metrics.k8s.io", &format!("{namespace}/{name}")),
            false => ApiError::not_found("nodemetrics.metrics.k8s.io", name),
        }
    }
}

/// Collects until `cancel`.
pub fn start(
    metrics: Arc<Metrics>,
    client: kube::Client,
    informers: Informers,
    period: Duration,
    cancel: CancellationToken,
) {
    tokio::spawn(async move {
        supervise::keep_running("metrics", &cancel, || {
            let (client, informers, cancel) = (client.clone(), informers.clone(), cancel.clone());
            metrics.clone().run(Config { client, informers, clock: Clock::System, period, cancel })
        })
        .await;
    });
}
