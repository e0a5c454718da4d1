use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    PATIENCE, borrow,
    counters::{Counters, Outcome},
    level::{Level, LevelConfig},
    queues::Queuing,
    snapshot::Snapshot,
};
use crate::{
    authn::{component, controller},
    bootstrap::flow_control,
    contract::UserInfo,
    route::{Query, RequestInfo},
    testing::{Cluster, admin, message, node, user},
};

fn request(line: &str) -> RequestInfo {
    let (method, path) = line.split_once(' ').unwrap();
    RequestInfo::parse(&method.parse().unwrap(), path, &Query::default())
}

fn authenticated(name: &str, groups: &[&str]) -> UserInfo {
    let mut user = user(name, groups);
    user.groups.push("system:authenticated".into());
    user
}

#[test]
fn requests_are_sorted_as_upstream_sorts_them() {
    let (schemas, levels): (Vec<_>, Vec<_>) =
        flow_control::all().partition(|(resource, _)| resource.kind == "FlowSchema");
    let objects = |all: Vec<(_, Value)>| all.into_iter().map(|(_, object)| object).collect::<Vec<_>>();
    let snapshot = Snapshot::build(&Snapshot::default(), &objects(schemas), &objects(levels));
    let (pods, lease) = ("GET /api/v1/pods", "PUT /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/l");
    let slice = "POST /apis/discovery.k8s.io/v1/namespaces/n/endpointslices";
    let account = authenticated("system:serviceaccount:n:a", &["system:serviceaccounts"]);
    let mut kubelet = node("n");
    kubelet.groups.push("system:authenticated".into());
    let rows = [
        (admin(), pods, "exempt exempt"),
        (user("system:anonymous", &["system:unauthenticated"]), "GET /healthz", "probes exempt"),
        (component("system:kube-scheduler"), lease, "system-leader-election leader-election"),
        (component("system:kube-scheduler"), pods, "kube-scheduler workload-high"),
        (controller("endpoint-controller"), slice, "endpoint-controller workload-high"),
        (controller("deployment-controller"), pods, "kube-system-service-accounts workload-high"),
        (component("system:kube-controller-manager"), pods, "kube-controller-manager workload-high"),
        (kubelet.clone(), "PATCH /api/v1/nodes/n/status", "system-node-high node-high"),
        (kubelet, "GET /api/v1/secrets", "system-nodes system"),
        (account.clone(), pods, "service-accounts workload-low"),
        (account, "GET /apis/apps/v1/deployments", "service-accounts workload-low"),
        (authenticated("alice", &[]), pods, "global-default global-default"),
        (authenticated("alice", &[]), "GET /version", "global-default global-default"),
        // Nobody is in neither group; the last one takes them anyway.
        (user("nobody", &[]), pods, "catch-all catch-all"),
    ];
    for (who, line, expected) in rows {
        let schema = snapshot.classify(&who, &request(line)).unwrap();
        assert_eq!(format!("{} {}", schema.name, schema.level.name), expected, "{} {line}", who.name);
    }
}

#[test]
fn flows_are_told_apart_by_user_or_by_namespace() {
    let snapshot = |by: &str| {
        let schema = json!({"metadata": {"name": "s", "uid": "u"}, "spec": {
            "matchingPrecedence": 5, "priorityLevelConfiguration": {"name": "catch-all"},
            "distinguisherMethod": {"type": by},
            "rules": [{"subjects": [{"kind": "User", "user": {"name": "*"}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}]}],
        }});
        Snapshot::build(&Snapshot::default(), &[schema], &[])
    };
    let flow = |by: &str, name: &str, space: &str| {
        let (snapshot, who) = (snapshot(by), user(name, &[]));
        let info = request(&format!("GET /api/v1/namespaces/{space}/pods/p"));
        snapshot.classify(&who, &info).unwrap().flow(&who, &info)
    };
    assert_ne!(flow("ByUser", "a", "n"), flow("ByUser", "b", "n"));
    assert_eq!(flow("ByUser", "a", "n"), flow("ByUser", "a", "m"));
    assert_ne!(flow("ByNamespace", "a", "n"), flow("ByNamespace", "a", "m"));
    assert_eq!(flow("ByNamespace", "a", "n"), flow("ByNamespace", "b", "n"));
    assert_eq!(flow("", "a", "n"), flow("", "b", "m"));
}

fn level(seats: u32, queuing: Queuing) -> Arc<Level> {
    let level = Level::new("l");
    let terms = borrow::Terms { shares: 1, lendable_percent: 0, borrowing_percent: None };
    let bounds = borrow::Bounds { nominal: seats, lower: seats, upper: seats };
    level.configure(LevelConfig { exempt: false, terms, queuing }, bounds);
    level
}

const QUEUES: Queuing = Queuing { queues: 8, hand: 2, length: 3 };

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_to_come_back() {
    let (level, counters) = (level(1, QUEUES), Arc::new(Counters::default()));
    let first = level.enter(&counters, 1, 1, PATIENCE).await.unwrap();
    let began = Instant::now();
    assert_eq!(level.enter(&counters, 1, 1, PATIENCE).await.err(), Some(Outcome::TimeOut));
    assert_eq!(began.elapsed(), PATIENCE);
    let later = tokio::spawn({
        let (level, counters) = (level.clone(), counters.clone());
        async move { level.enter(&counters, 1, 1, PATIENCE).await.map(drop) }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(first);
    assert_eq!(later.await.unwrap(), Ok(()));
    // The seat that came back is free again, and is taken without a wait.
    let now = Instant::now();
    drop(level.enter(&counters, 2, 1, PATIENCE).await.unwrap());
    assert_eq!(now.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_takes_no_seat_along() {
    let (level, counters) = (level(1, QUEUES), Arc::new(Counters::default()));
    for turn in 0..50_u64 {
        let first = level.enter(&counters, 1, 1, PATIENCE).await.unwrap();
        let enter = |flow| {
            let (level, counters) = (level.clone(), counters.clone());
            tokio::spawn(async move { level.enter(&counters, flow, 1, PATIENCE).await.map(drop) })
        };
        let (gone, stays) = (enter(1), enter(2));
        tokio::task::yield_now().await;
        // Before the seat is free, in the moment in which it becomes so, and after.
        if turn % 3 == 0 {
            gone.abort();
        }
        drop(first);
        if turn % 3 == 1 {
            gone.abort();
        }
        assert_eq!(stays.await.unwrap(), Ok(()));
        let _ = gone.await;
    }
    assert!(level.enter(&counters, 3, 1, Duration::ZERO).await.is_ok());
}

#[tokio::test]
async fn full_queues_refuse_at_once() {
    let (level, counters) = (level(1, Queuing { queues: 1, hand: 1, length: 1 }), Arc::new(Counters::default()));
    let first = level.enter(&counters, 1, 1, PATIENCE).await.unwrap();
    let waiting = tokio::spawn({
        let (level, counters) = (level.clone(), counters.clone());
        async move { level.enter(&counters, 1, 1, PATIENCE).await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert_eq!(level.enter(&counters, 2, 1, PATIENCE).await.err(), Some(Outcome::QueueFull));
    drop(first);
    assert_eq!(waiting.await.unwrap(), Ok(()));
}

const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";

fn noxu(level: &str) -> Value {
    json!({"metadata": {"name": "noxu"}, "spec": {
        "matchingPrecedence": 1000, "priorityLevelConfiguration": {"name": level},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "noxu"}}],
                   "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}],
    }})
}

/// Waits until an object is as it should be.
async fn until(cluster: &Cluster, path: &str, is_so: impl Fn(u16, &Value) -> bool) -> Value {
    for _ in 0..400 {
        let (code, object) = cluster.get(&admin(), path).await;
        if is_so(code, &object) {
            return object;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{path} never came to be as it should");
}

fn is_dangling(schema: &Value, status: &str) -> bool {
    let conditions = schema["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|one| one["type"] == "Dangling" && one["status"] == status && one["reason"] != "")
}

#[tokio::test]
async fn answers_say_by_which_objects_they_were_sorted() {
    let cluster = Cluster::start().await;
    cluster.make(SCHEMAS, noxu("jail")).await;
    let path = format!("{SCHEMAS}/noxu");
    let schema = until(&cluster, &path, |_, schema| is_dangling(schema, "True")).await;
    let words =
        "This FlowSchema references the PriorityLevelConfiguration object named \"jail\" but there is no such object";
    assert_eq!(schema["status"]["conditions"][0]["message"], words);

    let reject = json!({"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}});
    let jail = json!({"metadata": {"name": "jail"}, "spec": {"type": "Limited", "limited": reject}});
    let jail = cluster.make(LEVELS, jail).await;
    let schema = until(&cluster, &path, |_, schema| is_dangling(schema, "False")).await;

    let header = |response: &crate::contract::Response, name: &str| {
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    let noxu = user("noxu", &[]);
    let (by_schema, by_level) = ("x-kubernetes-pf-flowschema-uid", "x-kubernetes-pf-prioritylevel-uid");
    // It is forbidden to look there, and is told so under the same headers.
    let answer = cluster.open(&noxu, "GET", "/metrics", Value::Null).await;
    assert_eq!(
        (answer.status().as_u16(), header(&answer, by_schema)),
        (403, schema["metadata"]["uid"].as_str().unwrap().into())
    );
    assert_eq!(header(&answer, by_level), jail["metadata"]["uid"].as_str().unwrap());
    let other = cluster.open(&user("foo", &[]), "GET", "/version", Value::Null).await;
    assert!(!header(&other, by_schema).is_empty() && header(&other, by_schema) != header(&answer, by_schema));

    let info = request("GET /version");
    let sorted = cluster.api.inner.fairness.classify(&noxu, &info).unwrap();
    let seats = sorted.level.current();
    let mut places = Vec::new();
    for _ in 0..seats {
        places.push(sorted.enter(&noxu, &info, |_| 1).await.unwrap());
    }
    let full = cluster.open(&noxu, "GET", "/version", Value::Null).await;
    assert_eq!((full.status().as_u16(), header(&full, "retry-after")), (429, "1".into()));
    assert_eq!(header(&full, by_level), jail["metadata"]["uid"].as_str().unwrap());
    let (_, metrics) = cluster.get(&admin(), "/metrics").await;
    let labels = "{priority_level=\"jail\",flow_schema=\"noxu\"";
    for line in [
        format!("apiserver_flowcontrol_rejected_requests_total{labels},reason=\"concurrency-limit\"}} 1"),
        format!("apiserver_flowcontrol_current_executing_requests{labels}}} {seats}"),
        format!("apiserver_flowcontrol_current_inqueue_requests{labels}}} 0"),
        format!("apiserver_flowcontrol_dispatched_requests_total{labels}}} {}", seats + 1),
        format!("apiserver_flowcontrol_request_wait_duration_seconds_count{labels},execute=\"true\"}} {}", seats + 1),
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"jail\"} 3".into(),
    ] {
        assert!(metrics.as_str().unwrap().contains(&line), "{line} is not in {metrics}");
    }
    drop(places);
    assert_ne!(cluster.send(&noxu, "GET", "/version", Value::Null).await.0, 429);
}

#[tokio::test]
async fn what_the_server_cannot_do_without_comes_back() {
    let cluster = Cluster::start().await;
    for (base, name) in [(SCHEMAS, "catch-all"), (SCHEMAS, "exempt"), (LEVELS, "catch-all"), (LEVELS, "global-default")]
    {
        let path = format!("{base}/{name}");
        let before = until(&cluster, &path, |code, _| code == 200).await;
        // Told once, the keeper has seen it.
        until(&cluster, &format!("{SCHEMAS}/catch-all"), |_, schema| is_dangling(schema, "False")).await;
        assert_eq!(cluster.send(&admin(), "DELETE", &path, Value::Null).await.0, 200);
        let again = until(&cluster, &path, |code, object| {
            code == 200 && object["metadata"]["uid"] != before["metadata"]["uid"]
        })
        .await;
        assert_eq!(again["spec"], before["spec"]);
    }
    let change = json!({"spec": {"limited": {"nominalConcurrencyShares": 500}}});
    let (code, answer) = cluster.send(&admin(), "PATCH", &format!("{LEVELS}/catch-all"), change.clone()).await;
    assert_eq!(code, 422, "{answer}");
    assert!(message(&answer).contains("spec of 'catch-all' must equal the fixed value"), "{answer}");
    // What is suggested is put right while it is the server's, and left alone once it is the administrator's.
    let (path, shares) = (format!("{LEVELS}/workload-low"), |level: &Value| {
        level["spec"]["limited"]["nominalConcurrencyShares"].clone()
    });
    assert_eq!(cluster.send(&admin(), "PATCH", &path, change.clone()).await.0, 200);
    until(&cluster, &path, |_, level| shares(level) == 100).await;
    let mut own = change;
    own["metadata"] = json!({"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}});
    assert_eq!(cluster.send(&admin(), "PATCH", &path, own).await.0, 200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(shares(&until(&cluster, &path, |code, _| code == 200).await), 500);
}

#[tokio::test]
async fn a_quiet_level_lends_and_gets_back() {
    let lent = Snapshot::build(&Snapshot::default(), &[], &[]);
    let one = lent.configured().find(|one| &*one.level.name == "catch-all").unwrap();
    assert_eq!((one.level.bounds().nominal, one.level.current()), (600, 600));
    one.level.set_seats(false, 1);
    let counters = Arc::new(Counters::default());
    let place = one.level.enter(&counters, 1, 1, PATIENCE).await.unwrap();
    assert_eq!(one.level.enter(&counters, 1, 1, PATIENCE).await.err(), Some(Outcome::ConcurrencyLimit));
    one.level.set_seats(false, 600);
    assert!(one.level.enter(&counters, 1, 1, PATIENCE).await.is_ok());
    drop(place);
}

/// What a request pays where there is room: `cargo test -p knarr-apiserver --lib -- --ignored free_seat --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn a_free_seat_costs_little() {
    const ROUNDS: u32 = 200_000;
    let (schemas, levels): (Vec<_>, Vec<_>) =
        flow_control::all().partition(|(resource, _)| resource.kind == "FlowSchema");
    let objects = |all: Vec<(_, Value)>| all.into_iter().map(|(_, object)| object).collect::<Vec<_>>();
    let snapshot = Snapshot::build(&Snapshot::default(), &objects(schemas), &objects(levels));
    let (who, info) = (controller("deployment-controller"), request("GET /api/v1/namespaces/n/pods/p"));
    let began = std::time::Instant::now();
    for _ in 0..ROUNDS {
        assert!(snapshot.classify(&who, &info).is_some());
    }
    let sorting = began.elapsed() / ROUNDS;
    let schema = snapshot.classify(&who, &info).unwrap();
    let began = std::time::Instant::now();
    for _ in 0..ROUNDS {
        drop(schema.enter(&who, &info, |_| 1).await.unwrap());
    }
    eprintln!("sorting {sorting:?}, a seat and back {:?}", began.elapsed() / ROUNDS);
}
