use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::{Value, from_value, json};

use super::plan::{Step, next};

fn outcome(claim: Value, volume: Value) -> String {
    let claim: PersistentVolumeClaim = from_value(claim).unwrap();
    let volume: PersistentVolume = from_value(volume).unwrap();
    match next(&claim, &volume, Timestamp::UNIX_EPOCH) {
        None => "nothing".to_owned(),
        Some(Step::Elsewhere) => "elsewhere".to_owned(),
        Some(Step::Raise) => "raise".to_owned(),
        Some(Step::Begin(status)) => format!("begin {:?}", status.conditions.unwrap()[0].type_),
        Some(Step::Finish(status)) => format!("{:?} {:?}", status.capacity.unwrap()["storage"].0, status.conditions),
    }
}

#[test]
fn a_claim_grows_step_by_step() {
    let claim = |asks: &str, resizing: bool| {
        let conditions = if resizing { json!([{"type": "Resizing", "status": "True"}]) } else { json!([]) };
        json!({
            "metadata": {"name": "c", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": "v", "resources": {"requests": {"storage": asks}}},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "conditions": conditions},
        })
    };
    let volume = |size: &str, by: &str| json!({"metadata": {"name": "v", "annotations": {"pv.kubernetes.io/provisioned-by": by}}, "spec": {"capacity": {"storage": size}}});
    let mut pending = claim("2Gi", false);
    pending["status"] = json!({"phase": "Pending"});
    for (claim, volume, expected) in [
        (claim("1Gi", false), volume("1Gi", "knarr.dev/local"), "nothing"),
        (pending, volume("1Gi", "knarr.dev/local"), "nothing"),
        (claim("2Gi", false), volume("1Gi", "example.com/other"), "elsewhere"),
        (claim("2Gi", false), volume("1Gi", "knarr.dev/local"), "begin \"Resizing\""),
        (claim("2Gi", true), volume("1Gi", "knarr.dev/local"), "raise"),
        (claim("2Gi", true), volume("2Gi", "knarr.dev/local"), "\"2Gi\" None"),
    ] {
        assert_eq!(outcome(claim.clone(), volume.clone()), expected, "{claim} {volume}");
    }
}
