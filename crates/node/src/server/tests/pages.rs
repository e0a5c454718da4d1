use http::StatusCode;
use serde_json::{Value, json};

use super::Host;

#[tokio::test]
async fn usage_is_told_in_upstreams_shapes() {
    let host = Host::new().await;
    let (status, page) = host.get("/metrics/resource").await;
    assert_eq!(status, StatusCode::OK);
    let labels = "{container=\"a\",namespace=\"d\",pod=\"p\"}";
    for line in [
        "# TYPE container_cpu_usage_seconds_total counter".to_owned(),
        format!("container_cpu_usage_seconds_total{labels} 1.5 7000"),
        format!("container_memory_working_set_bytes{labels} 4194304 7000"),
        "pod_memory_working_set_bytes{namespace=\"d\",pod=\"p\"} 4194304 7000".to_owned(),
        "resource_scrape_error 0".to_owned(),
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    }
    for name in ["container_start_time_seconds{", "node_cpu_usage_seconds_total ", "node_memory_working_set_bytes "] {
        assert!(page.lines().any(|line| line.starts_with(name)), "{name} in\n{page}");
    }
    let (status, summary) = host.get("/stats/summary").await;
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((status, &summary["node"]["nodeName"]), (StatusCode::OK, &json!("n1")));
    assert!(summary["node"]["memory"]["workingSetBytes"].as_u64().unwrap() > 0);
    assert!(summary["node"]["fs"]["capacityBytes"].as_u64().unwrap() > 0);
    let pod = &summary["pods"][0];
    assert_eq!(pod["podRef"], json!({"name": "p", "namespace": "d", "uid": "u1"}));
    let cpu = json!({"time": "1970-01-01T00:00:07Z", "usageCoreNanoSeconds": 1_500_000_000});
    assert_eq!((&pod["containers"][0]["name"], &pod["containers"][0]["cpu"]), (&json!("a"), &cpu));
    let (_, brief) = host.get("/stats/summary?only_cpu_and_memory=true").await;
    let brief: Value = serde_json::from_str(&brief).unwrap();
    assert!(brief["node"]["fs"].is_null() && brief["pods"][0]["memory"]["workingSetBytes"] == 4 << 20);
}
