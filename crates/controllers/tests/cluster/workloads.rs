//! The life of a DaemonSet, a StatefulSet, a CronJob, a ReplicationController; and of pods that stand in each other's way.

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, StatefulSet},
    batch::v1::CronJob,
    core::v1::{Event, Node, PersistentVolumeClaim, Pod, ReplicationController},
    policy::v1::PodDisruptionBudget,
};
use knarr_client::{call, meta};
use kube::{Api, api::DeleteParams};
use serde_json::{Value, json};

use super::{
    get,
    harness::{Cluster, start},
};

fn workload(kind: &str, name: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}},
    });
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    object
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn names(pods: &[Pod]) -> Vec<&str> {
    pods.iter().map(|pod| meta::name(&pod.metadata)).collect()
}

async fn revisions(cluster: &Cluster) -> Vec<ControllerRevision> {
    let revisions: Api<ControllerRevision> = Api::namespaced(cluster.client.clone(), "default");
    let mut revisions = revisions.list(&Default::default()).await.unwrap().items;
    revisions.sort_by_key(|revision| revision.revision);
    revisions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_follows_nodes_and_templates() {
    let cluster = start(3).await;
    let node = call::get::<Node>(&cluster.client, "", "n2").await.unwrap().unwrap();
    let taint = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    call::merge(&cluster.client, &node, taint).await.unwrap();
    cluster.create(workload("DaemonSet", "agent", json!({}))).await;
    let hosts = |image: &'static str| {
        let cluster = &cluster;
        async move {
            let pods = cluster.pods("default").await;
            let is_settled = pods.iter().all(|pod| {
                pod.metadata.deletion_timestamp.is_none()
                    && pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some(image)
            });
            let mut hosts: Vec<_> = pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect();
            hosts.sort();
            if is_settled { hosts.join(" ") } else { format!("{hosts:?} of several templates") }
        }
    };
    cluster.eventually("a pod on each node that may have one", || async { hosts("v1").await == "n0 n1" }).await;
    cluster.add_node("n3").await;
    call::merge(&cluster.client, &node, json!({"spec": {"taints": null}})).await.unwrap();
    cluster.eventually("a pod on each node", || async { hosts("v1").await == "n0 n1 n2 n3" }).await;

    let set = || async { get::<DaemonSet>(&cluster, "agent").await.unwrap() };
    call::merge(&cluster.client, &set().await, image("v2")).await.unwrap();
    cluster.eventually("the new template everywhere", || async { hosts("v2").await == "n0 n1 n2 n3" }).await;
    cluster
        .eventually("the status", || async {
            let status = set().await.status.unwrap_or_default();
            status.updated_number_scheduled == Some(4) && status.number_available == Some(4)
        })
        .await;
    let history = revisions(&cluster).await;
    assert_eq!(history.iter().map(|revision| revision.revision).collect::<Vec<_>>(), [1, 2]);
    // As kubectl rollout undo does it.
    let undo = kube::api::Patch::Strategic(history[0].data.clone().unwrap().0);
    let sets: Api<DaemonSet> = Api::namespaced(cluster.client.clone(), "default");
    sets.patch("agent", &Default::default(), &undo).await.unwrap();
    cluster.eventually("the old template everywhere", || async { hosts("v1").await == "n0 n1 n2 n3" }).await;
    cluster
        .eventually("the old revision to be the newest", || async {
            revisions(&cluster).await.iter().map(|revision| revision.revision).collect::<Vec<_>>() == [2, 3]
        })
        .await;
    // Gone, all of it goes.
    call::delete(&cluster.client, &set().await, DeleteParams::background()).await.unwrap();
    cluster
        .eventually("nothing to be left", || async {
            cluster.pods("default").await.is_empty() && revisions(&cluster).await.is_empty()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_keeps_names_through_updates() {
    let cluster = start(2).await;
    cluster.create(workload("StatefulSet", "db", json!({"replicas": 3, "serviceName": "db"}))).await;
    let set = || async { get::<StatefulSet>(&cluster, "db").await.unwrap() };
    let is_done = || async {
        let set = set().await;
        let status = set.status.clone().unwrap_or_default();
        let wanted = set.spec.as_ref().and_then(|spec| spec.replicas);
        status.observed_generation == set.metadata.generation
            && status.updated_replicas.or(Some(0)) == wanted
            && status.ready_replicas.or(Some(0)) == wanted
            && Some(status.replicas) == wanted
            && status.current_revision == status.update_revision
    };
    cluster.eventually("three pods", is_done).await;
    assert_eq!(names(&cluster.pods("default").await), ["db-0", "db-1", "db-2"]);
    call::merge(&cluster.client, &set().await, image("v2")).await.unwrap();
    cluster.eventually("the update", is_done).await;
    let pods = cluster.pods("default").await;
    assert_eq!(names(&pods), ["db-0", "db-1", "db-2"]);
    assert!(pods.iter().all(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("v2")));
    let orphan = DeleteParams::orphan();
    call::delete(&cluster.client, &set().await, orphan).await.unwrap();
    cluster
        .eventually("the pods to be orphans", || async {
            let pods = cluster.pods("default").await;
            get::<StatefulSet>(&cluster, "db").await.is_none()
                && pods.iter().all(|pod| pod.metadata.owner_references.is_none())
        })
        .await;
    // A successor of the name takes them over as they are.
    let mut again = workload("StatefulSet", "db", json!({"replicas": 2, "serviceName": "db"}));
    again["spec"]["template"]["spec"]["containers"][0]["image"] = "v2".into();
    let before = cluster.pods("default").await;
    cluster.create(again).await;
    cluster.eventually("two pods of three", || async { cluster.pods("default").await.len() == 2 }).await;
    assert_eq!(names(&cluster.pods("default").await), ["db-0", "db-1"]);
    let uids = |pods: &[Pod]| pods.iter().map(|pod| pod.metadata.uid.clone()).collect::<Vec<_>>();
    cluster.eventually("the set to be settled", is_done).await;
    assert_eq!(
        uids(&cluster.pods("default").await),
        uids(&before[..2]),
        "they are of its template, so none is made anew"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_come_before_pods_and_go_with_them_where_that_is_wished() {
    let cluster = start(1).await;
    let claims = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Mi"}}}}]);
    let spec = json!({"replicas": 2, "serviceName": "db", "podManagementPolicy": "Parallel", "volumeClaimTemplates": claims,
        "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete", "whenDeleted": "Retain"}});
    cluster.create(workload("StatefulSet", "db", spec)).await;
    let claims = || async {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(cluster.client.clone(), "default");
        let claims = claims.list(&Default::default()).await.unwrap().items;
        // One that waits for its protection to end is as good as gone.
        let alive = claims.iter().filter(|claim| claim.metadata.deletion_timestamp.is_none());
        alive.map(|claim| meta::name(&claim.metadata).to_owned()).collect::<Vec<_>>().join(" ")
    };
    cluster.eventually("two claims", || async { claims().await == "data-db-0 data-db-1" }).await;
    cluster.eventually("two pods", || async { cluster.pods("default").await.len() == 2 }).await;
    let set = get::<StatefulSet>(&cluster, "db").await.unwrap();
    call::merge(&cluster.client, &set, json!({"spec": {"replicas": 1}})).await.unwrap();
    cluster.eventually("the second claim to go", || async { claims().await == "data-db-0" }).await;
    call::delete(&cluster.client, &set, DeleteParams::foreground()).await.unwrap();
    cluster.eventually("the pods to go", || async { cluster.pods("default").await.is_empty() }).await;
    assert_eq!(claims().await, "data-db-0", "kept, as the policy says");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_job_makes_jobs_and_clears_them_away() {
    let cluster = start(1).await;
    let template = json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    cluster
        .create(json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick", "namespace": "default"},
        "spec": {"schedule": "@every 1s", "timeZone": "Asia/Tokyo", "successfulJobsHistoryLimit": 0, "jobTemplate": template}}))
        .await;
    let status = || async { get::<CronJob>(&cluster, "tick").await.unwrap().status.unwrap_or_default() };
    cluster.eventually("a Job to succeed", || async { status().await.last_successful_time.is_some() }).await;
    // No more of them: where a Job takes longer than a second, there is always one.
    let tick = get::<CronJob>(&cluster, "tick").await.unwrap();
    call::merge(&cluster.client, &tick, json!({"spec": {"suspend": true}})).await.unwrap();
    cluster
        .eventually("all Jobs to have come and gone", || async {
            status().await.active.is_none() && cluster.pods("default").await.is_empty()
        })
        .await;
    cluster
        .eventually("its events", || async {
            let events: Api<Event> = Api::namespaced(cluster.client.clone(), "default");
            let events = events.list(&Default::default()).await.unwrap().items;
            let has = |reason: &str| events.iter().any(|event| event.reason.as_deref() == Some(reason));
            ["SuccessfulCreate", "SawCompletedJob", "SuccessfulDelete"].into_iter().all(has)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_controller_and_a_budget_for_its_pods() {
    let cluster = start(1).await;
    let labels = json!({"app": "old"});
    cluster
        .create(json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "old", "namespace": "default"},
        "spec": {"replicas": 3, "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}))
        .await;
    cluster
        .create(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b", "namespace": "default"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}}}))
        .await;
    cluster
        .eventually("three pods of which one may go", || async {
            let ready = get::<ReplicationController>(&cluster, "old").await.and_then(|one| one.status?.ready_replicas);
            let budget = get::<PodDisruptionBudget>(&cluster, "b").await.and_then(|one| one.status).unwrap_or_default();
            ready == Some(3) && (budget.expected_pods, budget.disruptions_allowed) == (Some(3), Some(1))
        })
        .await;
    // Told to go and still there: that it was to go is taken back, but not before two minutes.
    let pod = cluster.pods("default").await.remove(0);
    let condition = json!({"type": "DisruptionTarget", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z"});
    let conditions = serde_json::to_value(pod.status.as_ref().unwrap().conditions.clone()).unwrap();
    let mut conditions = conditions.as_array().unwrap().clone();
    conditions.push(condition);
    call::merge_subresource(&cluster.client, &pod, "status", json!({"status": {"conditions": conditions}}))
        .await
        .unwrap();
    cluster
        .eventually("the condition to be taken back", || async {
            let pod = get::<Pod>(&cluster, meta::name(&pod.metadata)).await.unwrap();
            let conditions = pod.status.unwrap().conditions.unwrap();
            conditions.iter().any(|one| one.type_ == "DisruptionTarget" && one.status == "False")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_makes_room_is_who_is_guarded_least() {
    let cluster = start(2).await;
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 1000});
    let request =
        http::Request::post("/apis/scheduling.k8s.io/v1/priorityclasses").header("content-type", "application/json");
    cluster.client.request_text(request.body(class.to_string().into_bytes()).unwrap()).await.unwrap();
    let pod = |name: &str, more: Value| {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
            "spec": {"terminationGracePeriodSeconds": 0,
                "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "60"}}}]}});
        json_patch::merge(&mut pod, &more);
        pod
    };
    for (name, node) in [("guarded", "n0"), ("free", "n1")] {
        cluster
            .create(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name, "namespace": "default"},
            "spec": {"minAvailable": if name == "guarded" { 1 } else { 0 }, "selector": {"matchLabels": {"app": name}}}}))
            .await;
        cluster.create(pod(name, json!({"spec": {"nodeSelector": {"kubernetes.io/hostname": node}}}))).await;
    }
    let allows = |budget: &PodDisruptionBudget| budget.status.as_ref()?.disruptions_allowed;
    let healthy = |budget: &PodDisruptionBudget| budget.status.as_ref()?.current_healthy;
    cluster.known("the free budget", "default", "free", |budget| allows(budget) == Some(1)).await;
    cluster.known("the guarded budget", "default", "guarded", |budget| healthy(budget) == Some(1)).await;
    cluster.create(pod("vip", json!({"spec": {"priorityClassName": "high"}}))).await;
    cluster
        .eventually("the important pod to run", || async {
            get::<Pod>(&cluster, "vip").await.unwrap().status.and_then(|status| status.phase).as_deref()
                == Some("Running")
        })
        .await;
    assert!(get::<Pod>(&cluster, "guarded").await.is_some());
    assert!(get::<Pod>(&cluster, "free").await.is_none());
}
