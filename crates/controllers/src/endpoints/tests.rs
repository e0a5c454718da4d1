use serde_json::{Value, json};

use super::*;

#[test]
fn subsets_part_ready_from_unready_and_leave_out_what_ends() {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "d", "labels": {"a": "b"}},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }))
    .unwrap();
    let pod = |name: &str, address: &str, change: Value| -> Arc<Pod> {
        let mut value = json!({
            "metadata": {"name": name, "namespace": "d", "uid": name},
            "spec": {"containers": []},
            "status": {"podIP": address, "conditions": [{"type": "Ready", "status": "True"}]},
        });
        json_patch::merge(&mut value, &change);
        Arc::new(serde_json::from_value(value).unwrap())
    };
    let pods = [
        pod("b", "10.0.0.2", json!({})),
        pod("a", "10.0.0.1", json!({})),
        pod("unready", "10.0.0.3", json!({"status": {"conditions": null}})),
        pod("failed", "10.0.0.4", json!({"status": {"phase": "Failed"}})),
        pod("going", "10.0.0.5", json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}})),
        pod("early", "", json!({})),
    ];
    let endpoints = plan::endpoints(&service, &pods, None);
    let subsets = serde_json::to_value(&endpoints.subsets).unwrap();
    let ips = |list: &Value| {
        list.as_array().unwrap().iter().map(|a| a["ip"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(subsets.as_array().unwrap().len(), 1);
    assert_eq!(ips(&subsets[0]["addresses"]), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(ips(&subsets[0]["notReadyAddresses"]), ["10.0.0.3"]);
    assert_eq!(subsets[0]["ports"], json!([{"port": 80, "protocol": "TCP"}]));
    assert!(plan::is_ours(&endpoints));
    assert_eq!(plan::endpoints(&service, &pods, Some(&endpoints)), endpoints, "nothing to write the second time");
}
