use serde_json::{Value, json};

use super::tests::cluster;
use crate::testing::{admin, message, node};

pub(super) const CLAIMS: &str = "/api/v1/namespaces/team/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";

pub(super) fn claim(name: &str, size: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } },
    } })
}

#[tokio::test]
async fn claims_are_protected_and_grow_only_where_their_class_can() {
    let cluster = cluster().await;
    let made = cluster.make(CLAIMS, claim("a", "1Gi")).await;
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    assert_eq!(made["spec"]["storageClassName"], "local");
    let class = json!({ "metadata": { "name": "fast" }, "driverName": "d.io", "parameters": { "iops": "5" } });
    let class = cluster.make("/apis/storage.k8s.io/v1/volumeattributesclasses", class).await;
    assert_eq!(class["metadata"]["finalizers"], json!(["kubernetes.io/vac-protection"]));
    let path = format!("{CLAIMS}/a");
    let grow = |size: &str| json!({ "spec": { "resources": { "requests": { "storage": size } } } });
    let (code, answer) = cluster.send(&admin(), "PATCH", &path, grow("2Gi")).await;
    assert!(code == 403 || code == 422, "a claim that is not bound: {answer}");
    let bound = json!({ "status": { "phase": "Bound", "capacity": { "storage": "1Gi" } } });
    cluster.send(&admin(), "PATCH", &format!("{path}/status"), bound.clone()).await;
    let (code, answer) = cluster.send(&admin(), "PATCH", &path, grow("2Gi")).await;
    assert_eq!(code, 200, "{answer}");
    let (code, answer) = cluster.send(&admin(), "PATCH", &path, grow("500Mi")).await;
    assert_eq!(
        (code, message(&answer)),
        (
            422,
            r#"PersistentVolumeClaim "a" is invalid: spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"#
        )
    );
    let mut unnamed = claim("b", "1Gi");
    unnamed["spec"]["storageClassName"] = "".into();
    cluster.make(CLAIMS, unnamed).await;
    cluster.send(&admin(), "PATCH", &format!("{CLAIMS}/b/status"), bound).await;
    let (code, answer) = cluster.send(&admin(), "PATCH", &format!("{CLAIMS}/b"), grow("2Gi")).await;
    assert_eq!(
        (code, message(&answer)),
        (
            403,
            r#"persistentvolumeclaims "b" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"#
        )
    );
}

#[tokio::test]
async fn a_node_writes_no_volumes_but_its_own() {
    let cluster = cluster().await;
    let volume = |name: &str, host: &str| {
        let here = json!([{ "key": "kubernetes.io/hostname", "operator": "In", "values": [host] }]);
        json!({
            "metadata": { "name": name, "annotations": { "pv.kubernetes.io/provisioned-by": "knarr.dev/local" } },
            "spec": {
                "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "local": { "path": "/v" },
                "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": here }] } },
            },
        })
    };
    let own = node("node-1");
    let (code, answer) = cluster.post(&own, VOLUMES, volume("a", "node-1")).await;
    assert_eq!(code, 201, "{answer}");
    assert_eq!(answer["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));
    let mut of_a_person = volume("c", "node-1");
    of_a_person["metadata"]["annotations"] = json!({});
    for (who, object) in [(&node("node-2"), volume("b", "node-1")), (&own, volume("b", "node-2")), (&own, of_a_person)]
    {
        let (code, answer) = cluster.post(who, VOLUMES, object.clone()).await;
        assert_eq!(code, 403, "{object}: {answer}");
        assert!(message(&answer).contains("can only write volumes that are directories of its own"), "{answer}");
    }
    let path = format!("{VOLUMES}/a");
    let (code, _) = cluster.send(&node("node-2"), "DELETE", &path, Value::Null).await;
    assert_eq!(code, 403);
    cluster.settle().await;
    let (_, mut found) = cluster.get(&admin(), &path).await;
    found["spec"]["capacity"]["storage"] = "9Gi".into();
    let (code, answer) = cluster.send(&own, "PUT", &path, found).await;
    assert!(code == 403 && message(&answer).contains("modify the spec of a volume"), "{answer}");
    let (code, _) = cluster.send(&own, "DELETE", &path, Value::Null).await;
    assert_eq!(code, 200);
}

#[tokio::test]
async fn devices_are_administered_only_where_the_namespace_says_so() {
    let cluster = cluster().await;
    let path = "/apis/resource.k8s.io/v1/namespaces/team/resourceclaims";
    let claim = |name: &str| {
        let requests = json!([{ "name": "r", "exactly": { "deviceClassName": "c", "adminAccess": true } }]);
        json!({ "metadata": { "name": name }, "spec": { "devices": { "requests": requests } } })
    };
    let (code, answer) = cluster.send(&admin(), "POST", path, claim("a")).await;
    let why = "ResourceClaim.resource.k8s.io \"a\" is invalid: spec.devices.requests[0].exactly.adminAccess: Forbidden: admin \
               access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace";
    assert_eq!((code, message(&answer)), (422, why));
    let templates = "/apis/resource.k8s.io/v1/namespaces/team/resourceclaimtemplates";
    let template = json!({ "metadata": { "name": "a" }, "spec": { "spec": claim("a")["spec"] } });
    let (code, answer) = cluster.send(&admin(), "POST", templates, template).await;
    assert!(code == 422 && message(&answer).contains("spec.spec.devices.requests[0].exactly.adminAccess"), "{answer}");
    let label = json!({ "metadata": { "labels": { "resource.kubernetes.io/admin-access": "true" } } });
    cluster.send(&admin(), "PATCH", "/api/v1/namespaces/team", label).await;
    cluster.make(path, claim("a")).await;
}
