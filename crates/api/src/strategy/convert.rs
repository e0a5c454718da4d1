//! Resources that are served in more than one form and stored in one: Events (stored as `v1`) and
//! HorizontalPodAutoscalers (stored as `autoscaling/v2`).
//!
//! A written object is turned into the stored form right after it is decoded, so that strategies, admission and the
//! watch cache know one form only; a read turns it back.

use serde_json::Value;

use super::autoscaling::convert as autoscaling;
use crate::value::object_mut;

/// True where objects of this resource are stored in another form than they are served.
pub fn differs(group: &str, version: &str, kind: &str) -> bool {
    matches!((group, version, kind), ("events.k8s.io", _, "Event") | ("autoscaling", "v1", "HorizontalPodAutoscaler"))
}

/// From the served form to the stored one; does nothing where they are the same.
pub fn to_storage(group: &str, version: &str, kind: &str, object: &mut Value) {
    match (group, version, kind) {
        ("events.k8s.io", _, "Event") => event(object, true),
        ("autoscaling", "v1", "HorizontalPodAutoscaler") => autoscaling::to_v2(object),
        _ => {}
    }
}

/// From the stored form to the served one.
pub fn to_served(group: &str, version: &str, kind: &str, object: &mut Value) {
    match (group, version, kind) {
        ("events.k8s.io", _, "Event") => event(object, false),
        ("autoscaling", "v1", "HorizontalPodAutoscaler") => autoscaling::to_v1(object),
        _ => {}
    }
}

/// The same field under its name in `events.k8s.io/v1` and in `v1`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

fn event(event: &mut Value, to_core: bool) {
    let Some(object) = event.as_object_mut() else { return };
    for (new, old) in EVENT_FIELDS {
        let (from, to) = if to_core { (new, old) } else { (old, new) };
        if let Some(value) = object.remove(from) {
            object.insert(to.into(), value);
        }
    }
    object.insert("apiVersion".into(), if to_core { "v1" } else { "events.k8s.io/v1" }.into());
    if let Some(series) = object_mut(event, "series") {
        // Both forms agree on `count` and `lastObservedTime`; `state` was dropped from both.
        series.remove("state");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_of_both_groups_are_the_same_events() {
        let new = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": "n", "reason": "r",
            "regarding": {"kind": "Pod", "name": "p"}, "reportingController": "c", "reportingInstance": "i",
            "deprecatedCount": 2, "series": {"count": 3},
        });
        let mut object = new.clone();
        to_storage("events.k8s.io", "v1", "Event", &mut object);
        assert_eq!(
            object,
            json!({
                "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "message": "n", "reason": "r",
                "involvedObject": {"kind": "Pod", "name": "p"}, "reportingComponent": "c", "reportingInstance": "i",
                "count": 2, "series": {"count": 3},
            })
        );
        to_served("events.k8s.io", "v1", "Event", &mut object);
        assert_eq!(object, new);
        assert!(!differs("", "v1", "Event") && differs("events.k8s.io", "v1", "Event"));
    }
}
