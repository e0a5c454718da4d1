use std::time::Duration;

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
    let capacity = &summary["node"]["fs"]["capacityBytes"];
    assert_eq!(&pod["ephemeral-storage"]["capacityBytes"], capacity);
    let volume = &pod["volume"][0];
    assert_eq!((&volume["name"], &volume["capacityBytes"], &volume["inodesUsed"]), (&json!("v"), capacity, &json!(1)));
    assert_eq!(volume["pvcRef"], Value::Null);
    let (_, brief) = host.get("/stats/summary?only_cpu_and_memory=true").await;
    let brief: Value = serde_json::from_str(&brief).unwrap();
    assert!(brief["node"]["fs"].is_null() && brief["pods"][0]["memory"]["workingSetBytes"] == 4 << 20);
}

fn has_lines(page: &str, lines: &[String]) {
    for line in lines {
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    }
}

#[tokio::test]
async fn dashboards_find_containers_pods_and_the_node() {
    let host = Host::new().await;
    let (status, page) = host.get("/metrics/cadvisor").await;
    assert_eq!(status, StatusCode::OK);
    let (id, sandbox) = host.runtime.ids("a").unwrap();
    let group = "/kubepods/besteffort/podu1";
    let container = |more: &str| {
        format!("{{container=\"a\",{more}id=\"{group}/{id}\",image=\"app:1\",name=\"{id}\",namespace=\"d\",pod=\"p\"}}")
    };
    let pod = format!("{{container=\"\",id=\"{group}\",image=\"\",name=\"\",namespace=\"d\",pod=\"p\"}}");
    has_lines(
        &page,
        &[
            "# TYPE container_cpu_usage_seconds_total counter".to_owned(),
            format!("container_cpu_usage_seconds_total{} 1.5 7000", container("cpu=\"total\",")),
            format!("container_memory_working_set_bytes{} 4194304 7000", container("")),
            format!("container_memory_working_set_bytes{pod} 4194304 7000"),
            format!("container_spec_memory_limit_bytes{} 0", container("")),
            format!("container_last_seen{} 7 7000", container("")),
            format!("container_memory_cache{} 11 7000", container("").replace("\",name=", "\",kind=\"file\",name=")),
            "machine_memory_bytes 8589934592".to_owned(),
            "container_scrape_error 0".to_owned(),
        ],
    );
    assert!(!page.contains("} 12 7000"), "what the statistics say is not said twice: {page}");
    let root = "container_memory_rss{container=\"\",id=\"/\",image=\"\",name=\"\",namespace=\"\",pod=\"\"} ";
    assert!(page.lines().any(|line| line.starts_with(root)), "{page}");
    let interface = format!(
        "{{container=\"\",id=\"{group}/{sandbox}\",image=\"\",interface=\"eth0\",name=\"{sandbox}\",namespace=\"d\",pod=\"p\"}}"
    );
    has_lines(
        &page,
        &[
            format!("container_network_receive_bytes_total{interface} 100 7000"),
            format!("container_network_transmit_bytes_total{interface} 200 7000"),
        ],
    );
}

#[tokio::test]
async fn what_runs_and_by_which_configuration_is_told() {
    let host = Host::new().await;
    let (status, page) = host.get("/runningpods/").await;
    let pods: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(
        (status, &pods["kind"], pods["items"].as_array().unwrap().len()),
        (StatusCode::OK, &json!("PodList"), 1)
    );
    assert_eq!(pods["items"][0]["metadata"], json!({"name": "p", "namespace": "d", "uid": "u1"}));
    let containers = json!([{"name": "a", "image": "app:1", "resources": {}}]);
    assert_eq!(pods["items"][0]["spec"]["containers"], containers);

    let (_, page) = host.get("/configz").await;
    let config: Value = serde_json::from_str(&page).unwrap();
    let config = &config["kubeletconfig"];
    assert_eq!((&config["maxPods"], &config["clusterDNS"]), (&json!(110), &json!(["10.43.0.10"])));
    assert_eq!(config["authentication"]["anonymous"], json!({"enabled": false}));
    assert_eq!(config["evictionHard"], json!({"memory.available": "100Mi", "nodefs.available": "10%"}));
    let soft = (&config["evictionSoftGracePeriod"], &config["evictionMaxPodGracePeriod"]);
    assert_eq!(soft, (&json!({"memory.available": "60s"}), &json!(5)));
    assert_eq!((&config["imageGCHighThresholdPercent"], &config["kubeReserved"]), (&json!(85), &json!({})));
}

/// From the container's first answer on.
#[tokio::test]
async fn probes_are_counted() {
    let host = Host::new().await;
    host.runtime.answer_command("check", 1, "");
    let probe = json!({"exec": {"command": ["check"]}, "periodSeconds": 1});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "q", "namespace": "d", "uid": "u2"},
        "spec": {"nodeName": "n1", "containers": [{"name": "b", "image": "app:1", "readinessProbe": probe}]},
    });
    host.api.put("/api/v1/namespaces/d/pods/q", pod);
    let failed = "prober_probe_total{container=\"b\",namespace=\"d\",pod=\"q\",pod_uid=\"u2\",\
                  probe_type=\"Readiness\",result=\"failed\"} ";
    let counted = async {
        loop {
            let (status, page) = host.get("/metrics/probes").await;
            assert_eq!(status, StatusCode::OK);
            if page.lines().any(|line| line.starts_with(failed)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), counted).await.expect("the probe is counted in time");
}
