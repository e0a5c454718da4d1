//! What the server counts, as Prometheus reads it, under upstream's names so that dashboards work.

use std::{
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use http::StatusCode;
use knarr_api::registry::Resource;
use knarr_store::{Room, Store};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::Registry,
};

use crate::{codec::respond, contract::Response, policy::PolicyMetrics, webhook::WebhookMetrics};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    resource: &'static str,
    code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabels {
    verb: &'static str,
    resource: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabels {
    resource: &'static str,
}

type WatcherGauge = Gauge<i64, AtomicI64>;

pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<VerbLabels, Histogram, fn() -> Histogram>,
    watchers: Family<ResourceLabels, WatcherGauge>,
    pub(crate) webhooks: WebhookMetrics,
    pub(crate) policies: PolicyMetrics,
}

impl Metrics {
    /// `fairness` reads what is counted where requests wait, `store` what its disk has left.
    pub fn new(readings: Vec<Reading>, fairness: Box<dyn Collector>, store: Arc<dyn Store>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(fairness);
        registry.register_collector(Box::new(Disk(store)));
        registry.register_collector(Box::new(Readings(readings)));
        let requests = Family::default();
        registry.register("apiserver_request", "Requests by verb, resource and answer", requests.clone());
        let durations: Family<VerbLabels, Histogram, fn() -> Histogram> = Family::new_with_constructor(|| {
            Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0])
        });
        registry.register("apiserver_request_duration_seconds", "How long requests took", durations.clone());
        let watchers = Family::default();
        registry.register("apiserver_longrunning_requests", "Watches that are open", watchers.clone());
        let webhooks = WebhookMetrics::new(&mut registry);
        let policies = PolicyMetrics::new(&mut registry);
        Self { registry, requests, durations, watchers, webhooks, policies }
    }

    pub fn request(&self, verb: &'static str, resource: &'static str, code: u16, took: Duration, long_running: bool) {
        let code = u32::from(code);
        self.requests.get_or_create(&RequestLabels { verb, resource, code }).inc();
        if !long_running {
            self.durations.get_or_create(&VerbLabels { verb, resource }).observe(took.as_secs_f64());
        }
    }

    /// Counts a watch until the guard is dropped.
    pub fn watch_started(&self, resource: &Resource) -> WatchGuard {
        let gauge = self.watchers.get_or_create(&ResourceLabels { resource: resource.plural }).clone();
        gauge.inc();
        WatchGuard(gauge)
    }

    pub fn answer(&self) -> Response {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            return respond::text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n");
        }
        respond::with_type(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text)
    }
}

/// A number that is read when somebody asks, such as what the process uses.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub name: &'static str,
    pub help: &'static str,
    pub read: fn() -> Option<i64>,
}

#[derive(Debug)]
struct Readings(Vec<Reading>);

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for Reading { name, help, read } in &self.0 {
            let Some(value) = read() else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// The disk that the store is on, where this server knows it.
struct Disk(Arc<dyn Store>);

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Disk").field(&self.0.room()).finish()
    }
}

impl Collector for Disk {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(Room { free_bytes, needed_bytes }) = self.0.room() else { return Ok(()) };
        let is_full = u64::from(free_bytes < needed_bytes);
        for (name, help, value) in [
            ("knarr_store_disk_free_bytes", "What is left on the store's disk", free_bytes),
            ("knarr_store_disk_needed_bytes", "Writes are refused while less than this is left", needed_bytes),
            ("knarr_store_disk_full", "1 while writes are refused because the disk is full", is_full),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

pub struct WatchGuard(WatcherGauge);

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use knarr_store::{EmbeddedStore, MemoryStore, engine::disk::DiskEngine};

    use super::*;

    fn page(store: Arc<dyn Store>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Disk(store)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[tokio::test]
    async fn a_full_disk_is_told() {
        for (free_mib, is_full) in [(1, 1), (300, 0)] {
            let dir = tempfile::tempdir().unwrap();
            let engine = DiskEngine::open(dir.path(), move |_| Some(free_mib << 20)).unwrap();
            let page = page(Arc::new(EmbeddedStore::open(engine).unwrap()));
            let expected = [
                format!("knarr_store_disk_free_bytes {}", free_mib << 20),
                format!("knarr_store_disk_needed_bytes {}", 16 << 20),
                format!("knarr_store_disk_full {is_full}"),
            ];
            for line in expected {
                assert!(page.lines().any(|found| found == line), "{line}: {page}");
            }
        }
        assert!(!page(Arc::new(MemoryStore::default())).contains("knarr_store_disk"));
    }
}
