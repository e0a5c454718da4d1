//! Resources that are served in two versions but stored in one: Events (stored as core/v1, served as
//! events.k8s.io/v1 too) and HorizontalPodAutoscalers (stored as autoscaling/v2, served as v1 too).
//!
//! The conversions are pure and apply at the edges: what comes in is converted before the rules see it, what goes
//! out as it leaves. Bytes of the stored version are never copied.

use std::sync::Arc;

use bytes::Bytes;
use knarr_api::{registry::Resource, strategy::convert as rules};
use serde_json::Value;

use crate::contract::Stored;

/// The object in the version of `resource`; the same pointer where that is the stored one.
pub fn served(resource: &'static Resource, stored: Arc<Stored>) -> Arc<Stored> {
    if resource.same(resource.stored_as()) {
        return stored;
    }
    Arc::new(served_ref(resource, &stored))
}

/// The object converted, also where it need not be.
pub fn served_ref(resource: &'static Resource, stored: &Stored) -> Stored {
    let value = value_to_served(resource, &stored.value());
    Stored {
        key: stored.key.clone(),
        json: Bytes::from(serde_json::to_vec(&value).unwrap_or_default()),
        resource_version: stored.resource_version,
        labels: stored.labels.clone(),
        fields: stored.fields.clone(),
    }
}

pub fn value_to_served(resource: &'static Resource, stored: &Value) -> Value {
    let mut object = stored.clone();
    rules::to_served(resource.group, resource.version, resource.kind, &mut object);
    object
}

/// Brings an object of the client's version into the stored one.
pub fn to_stored(resource: &'static Resource, object: &mut Value) {
    rules::to_storage(resource.group, resource.version, resource.kind, object);
}

#[cfg(test)]
mod tests {
    use knarr_api::registry::by_kind;
    use serde_json::json;

    use super::*;

    #[test]
    fn conversions_go_there_and_back() {
        let rows = [
            (
                ("events.k8s.io", "v1", "Event"),
                json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "note": "n", "regarding": {"name": "p"},
                       "reportingController": "c", "reportingInstance": "i", "deprecatedCount": 2, "reason": "r"}),
                json!({"apiVersion": "v1", "kind": "Event", "message": "n", "involvedObject": {"name": "p"},
                       "reportingComponent": "c", "reportingInstance": "i", "count": 2, "reason": "r"}),
            ),
            (
                ("autoscaling", "v1", "HorizontalPodAutoscaler"),
                json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
                       "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 80}}),
                json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
                       "spec": {"maxReplicas": 3, "metrics": [{"type": "Resource", "resource": {
                           "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}}),
            ),
        ];
        for ((group, version, kind), served, stored) in rows {
            let resource = by_kind(group, version, kind).unwrap();
            let mut object = served.clone();
            to_stored(resource, &mut object);
            assert_eq!(object, stored);
            assert_eq!(value_to_served(resource, &stored), served);
        }
    }
}
