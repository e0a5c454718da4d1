//! Pods that are deleted, forced away, or found again by an agent that was started anew.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::{
    super::admit::Offer,
    lives::{Cluster, POD, app, condition},
};
use crate::testing::eventually;

#[tokio::test(start_paused = true)]
async fn a_second_deletion_shortens_the_wait() {
    let cluster = Cluster::new();
    cluster.runtime.stop_takes(Duration::from_secs(1000));
    cluster.create(app());
    cluster.until_ready().await;
    cluster.delete(300);
    eventually("the stop", || (cluster.runtime.stopped().len() == 1).then_some(())).await;
    let before = tokio::time::Instant::now();
    cluster.delete(1);
    cluster.until_gone().await;
    assert!(before.elapsed() < Duration::from_secs(20), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_object_forced_away_still_ends() {
    let cluster = Cluster::new();
    cluster.create(app());
    cluster.until_ready().await;
    cluster.api.remove(POD);
    cluster.until_gone().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_forced_away_leaves_its_room_to_others() {
    let cluster = Cluster::new();
    cluster.runtime.stop_takes(Duration::from_secs(1000));
    let large = json!({"containers": [{"name": "a", "image": "app:1", "resources": {"requests": {"cpu": "3"}}}]});
    cluster.create(large);
    cluster.until_ready().await;
    let mut other = cluster.api.get(POD).unwrap();
    cluster.api.remove(POD);
    other["metadata"] = json!({"name": "q", "namespace": "d", "uid": "u2", "generation": 1});
    other["status"] = json!({"phase": "Pending"});
    let path = "/api/v1/namespaces/d/pods/q";
    cluster.api.put(path, other);
    let status = || Some(cluster.api.get(path)?["status"].clone()).filter(|status| status["phase"] != "Pending");
    let status = eventually("the node's word", status).await;
    assert_eq!(status["phase"], "Running", "{status}");
    assert_eq!(cluster.runtime.count(), (2, 2), "the first one has not ended yet");
}

/// The agent that is killed in a moment in which many pods go finds them again as left-overs, and has all its room.
#[tokio::test(start_paused = true)]
async fn left_overs_take_no_room_of_others() {
    let cluster = Cluster::new();
    cluster.create(app());
    cluster.until_ready().await;
    cluster.runtime.stop_takes(Duration::from_secs(1000));
    let cluster = cluster.restarted_without_the_pod().await;
    eventually("it is being ended", || (!cluster.runtime.stopped().is_empty()).then_some(())).await;
    let next: Pod = serde_json::from_value(json!({"metadata": {"uid": "u2"}, "spec": app()})).unwrap();
    let ctx = &cluster.ctx;
    let answer = ctx.with_offer(|offer| ctx.admitted().admit(&next, &Offer { pods: 1, ..*offer }, false));
    assert_eq!(answer, Ok(()));
    assert_eq!(cluster.runtime.count(), (1, 1), "it has not ended yet");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_adopts_what_runs() {
    let cluster = Cluster::new();
    let probe = json!({"exec": {"command": ["ready?"]}, "periodSeconds": 100});
    cluster.create(json!({"containers": [{"name": "a", "image": "app:1", "readinessProbe": probe}]}));
    let before = cluster.until_ready().await;
    let cluster = cluster.restarted();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(cluster.status()["containerStatuses"], before["containerStatuses"]);
    assert_eq!(condition(&cluster.status(), "Ready"), "True");
    assert_eq!(cluster.runtime.count(), (1, 1));
    // And it is the new agent that cares for it now.
    cluster.runtime.exit("a", 1);
    cluster.until("a restart", |status| status["containerStatuses"][0]["restartCount"] == 1).await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_is_cleared_away() {
    let cluster = Cluster::new();
    cluster.create(app());
    cluster.until_ready().await;
    let cluster = cluster.restarted_without_the_pod().await;
    cluster.until_gone().await;
    assert_eq!(cluster.runtime.stopped().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_sandbox_is_made_anew() {
    let cluster = Cluster::new();
    cluster.create(app());
    let before = cluster.until_ready().await;
    cluster.runtime.lose_sandbox();
    let status = cluster
        .until("back", |status| condition(status, "Ready") == "True" && status["podIP"] != before["podIP"])
        .await;
    assert_eq!(status["podIPs"].as_array().unwrap().len(), 1);
    assert_eq!(status["containerStatuses"][0]["restartCount"], 1);
    // What is left of the old one has the log of the run before, and is cleared away with it.
    assert_eq!(cluster.runtime.count(), (2, 2));
    cluster.runtime.exit("a", 1);
    cluster.until("another", |status| status["containerStatuses"][0]["restartCount"] == 2).await;
    eventually("one sandbox", || (cluster.runtime.count() == (1, 2)).then_some(())).await;
}
