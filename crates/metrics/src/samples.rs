//! Two readings of everything, and the use of the processor between them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use knarr_client::{lean::Pod, meta};

use crate::page::{Page, Place, Reading};

/// A reading this old says nothing about now.
const STALE_MS: i64 = 60_000;
/// Readings closer together than this say nothing about a rate.
const NEAR_MS: i64 = 500;
/// A container that was started this long before its only reading: its use since then stands for two readings.
const YOUNG_MS: std::ops::Range<i64> = 2_000..30_000;

/// What something uses, measured over a window that ends at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    pub cores: f64,
    pub memory_bytes: u64,
    pub at_ms: i64,
    pub window_ms: i64,
}

#[derive(Clone, Copy, Debug)]
struct Series {
    before: Option<Reading>,
    last: Reading,
}

impl Series {
    fn next(known: Option<&Self>, reading: Reading) -> Self {
        let Some(known) = known else { return Self { before: None, last: reading } };
        let last = known.last;
        // A container that was started again counts from zero.
        if reading.cpu_seconds < last.cpu_seconds || reading.started_s != last.started_s {
            return Self { before: None, last: reading };
        }
        if reading.at_ms - last.at_ms < NEAR_MS {
            return *known;
        }
        Self { before: Some(last), last: reading }
    }

    fn usage(&self, now_ms: i64) -> Option<Usage> {
        let Self { before, last } = self;
        if now_ms - last.at_ms > STALE_MS {
            return None;
        }
        let (cpu_seconds, window_ms) = match (before, last.started_s) {
            (Some(before), _) => (last.cpu_seconds - before.cpu_seconds, last.at_ms - before.at_ms),
            (None, Some(started)) => {
                let age = last.at_ms - (started * 1000.0) as i64;
                YOUNG_MS.contains(&age).then_some((last.cpu_seconds, age))?
            }
            (None, None) => return None,
        };
        let cores = cpu_seconds.max(0.0) * 1000.0 / window_ms.max(1) as f64;
        Some(Usage { cores, memory_bytes: last.memory_bytes, at_ms: last.at_ms, window_ms })
    }
}

#[derive(Default)]
struct OfNode {
    node: Option<Series>,
    containers: BTreeMap<Place, Series>,
}

/// The readings of all nodes, by the node's name: never more than the nodes last reported.
#[derive(Default)]
pub struct Samples {
    nodes: BTreeMap<String, OfNode>,
}

impl Samples {
    /// Takes in what a node reports; what it does not report any more is forgotten.
    pub fn note(&mut self, node: &str, page: Page) {
        let known = self.nodes.remove(node).unwrap_or_default();
        let next = |place: Place, reading: Reading| {
            let series = Series::next(known.containers.get(&place), reading);
            (place, series)
        };
        let containers = page.containers.into_iter().map(|(place, reading)| next(place, reading)).collect();
        let node_series = page.node.map(|reading| Series::next(known.node.as_ref(), reading));
        self.nodes.insert(node.to_owned(), OfNode { node: node_series, containers });
    }

    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.nodes.retain(|name, _| is_there(name));
    }

    /// Whether a node was read, but not often enough for its use to be known.
    pub fn is_half_known(&self, node: &str) -> bool {
        self.nodes.get(node).and_then(|of| of.node).is_some_and(|series| series.before.is_none())
    }

    pub fn node(&self, node: &ObjectMeta, now_ms: i64) -> Option<Usage> {
        self.nodes.get(meta::name(node))?.node?.usage(now_ms)
    }

    /// What each container of a pod uses; `None` where one of them is not known yet.
    pub fn pod(&self, pod: &Pod, now_ms: i64) -> Option<Vec<(String, Usage)>> {
        let node = self.nodes.get(pod.spec.as_ref()?.node_name.as_deref()?)?;
        let (namespace, name) = (meta::namespace(&pod.metadata), meta::name(&pod.metadata));
        let first = (namespace.to_owned(), name.to_owned(), String::new());
        let own = node.containers.range(first..).take_while(|(place, _)| place.0 == namespace && place.1 == name);
        let all: Option<Vec<_>> = own.map(|(place, series)| Some((place.2.clone(), series.usage(now_ms)?))).collect();
        all.filter(|containers| !containers.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at_ms: i64, cpu_seconds: f64, started_s: Option<f64>) -> Reading {
        Reading { at_ms, cpu_seconds, memory_bytes: 1, started_s }
    }

    #[test]
    fn use_is_the_difference_of_two_readings() {
        // Readings as (time, processor seconds, start), when it is asked, and the cores and window that are told.
        type Row = (&'static [(i64, f64, Option<f64>)], i64, Option<(f64, i64)>);
        let rows: [Row; 8] = [
            (&[(10_000, 1.0, None)], 10_000, None),
            (&[(10_000, 1.0, None), (20_000, 6.0, None)], 21_000, Some((0.5, 10_000))),
            (&[(10_000, 1.0, None), (20_000, 6.0, None)], 90_000, None),
            // The same page read twice.
            (&[(10_000, 1.0, None), (20_000, 6.0, None), (20_000, 6.0, None)], 21_000, Some((0.5, 10_000))),
            (&[(10_000, 1.0, None), (20_000, 6.0, None), (22_000, 7.0, None)], 22_000, Some((0.5, 2_000))),
            // A young container, and one of unknown past.
            (&[(10_000, 1.0, Some(5.0))], 10_000, Some((0.2, 5_000))),
            (&[(100_000, 1.0, Some(5.0))], 100_000, None),
            // Started again.
            (&[(10_000, 9.0, Some(1.0)), (20_000, 1.0, Some(16.0))], 20_000, Some((0.25, 4_000))),
        ];
        for (readings, now, expected) in rows {
            let mut series: Option<Series> = None;
            for (at, cpu, started) in readings {
                series = Some(Series::next(series.as_ref(), reading(*at, *cpu, *started)));
            }
            let usage = series.unwrap().usage(now).map(|usage| (usage.cores, usage.window_ms));
            assert_eq!(usage, expected, "{readings:?}");
        }
    }

    #[test]
    fn a_pod_is_known_when_all_its_containers_are() {
        let place = |pod: &str, name: &str| ("n".to_owned(), pod.to_owned(), name.to_owned());
        let mut samples = Samples::default();
        for at in [10_000, 20_000] {
            let mut containers = BTreeMap::from([
                (place("p", "a"), reading(at, at as f64 / 1000.0, None)),
                (place("p2", "a"), reading(at, 0.0, None)),
            ]);
            if at > 10_000 {
                containers.insert(place("p2", "late"), reading(at, 0.0, None));
            }
            samples.note("node", Page { node: None, containers });
        }
        let pod = |name: &str| -> Pod {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": name, "namespace": "n"}, "spec": {"nodeName": "node", "containers": []},
            }))
            .unwrap()
        };
        let known = samples.pod(&pod("p"), 20_000).unwrap();
        assert_eq!((known.len(), known[0].0.as_str(), known[0].1.cores), (1, "a", 1.0));
        assert!(samples.pod(&pod("p2"), 20_000).is_none());
        assert!(samples.pod(&pod("p3"), 20_000).is_none());
        samples.retain(|_| false);
        assert!(samples.pod(&pod("p"), 20_000).is_none());
    }
}
