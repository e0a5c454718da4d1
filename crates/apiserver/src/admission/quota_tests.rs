use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use super::{
    storage_tests::{CLAIMS, claim},
    tests::{PODS, cluster},
};
use crate::testing::{admin, message, pod};

#[tokio::test]
async fn quotas_hold_even_when_all_come_at_once() {
    let cluster = std::sync::Arc::new(cluster().await);
    let quota = json!({ "metadata": { "name": "few" }, "spec": { "hard": { "pods": "3", "count/configmaps": "1" } } });
    cluster.make("/api/v1/namespaces/team/resourcequotas", quota).await;
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..12 {
        let cluster = cluster.clone();
        tasks.spawn(async move { cluster.post(&admin(), PODS, pod(&format!("p{i}"), json!({}))).await });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|(code, _)| *code == 201).count(), 3, "{answers:?}");
    let refused = answers.iter().find(|(code, _)| *code != 201).unwrap();
    assert_eq!(refused.0, 403);
    assert!(
        message(&refused.1)
            .ends_with("is forbidden: exceeded quota: few, requested: pods=1, used: pods=3, limited: pods=3"),
        "{}",
        refused.1
    );
    cluster.settle().await;
    cluster.send(&admin(), "DELETE", &format!("{PODS}?gracePeriodSeconds=0"), Value::Null).await;
    cluster.settle().await;
    let (code, answer) = cluster.post(&admin(), PODS, pod("again", json!({}))).await;
    assert_eq!(code, 201, "what was deleted no longer counts: {answer}");
}

/// Many clients create, grow and delete claims at once, by the dice of a seed; at no moment is more handed out than the
/// quota has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_are_never_oversold() {
    const HARD_GIB: i64 = 20;
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("SEED={seed}");
    let cluster = std::sync::Arc::new(cluster().await);
    let class =
        json!({ "metadata": { "name": "grows" }, "provisioner": "example.org/x", "allowVolumeExpansion": true });
    cluster.make("/apis/storage.k8s.io/v1/storageclasses", class).await;
    let quota = json!({ "metadata": { "name": "q" }, "spec": { "hard": {
        "requests.storage": format!("{HARD_GIB}Gi"), "persistentvolumeclaims": "8",
    } } });
    cluster.make("/api/v1/namespaces/team/resourcequotas", quota).await;
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..8u64 {
        let cluster = cluster.clone();
        tasks.spawn(async move {
            let mut dice = StdRng::seed_from_u64(seed.wrapping_add(client));
            let mut done = [0; 3];
            for _ in 0..25 {
                let (name, size) = (format!("c{}", dice.random_range(0..12)), dice.random_range(1..6));
                let path = format!("{CLAIMS}/{name}");
                let (which, code) = match dice.random_range(0..4) {
                    0 => (2, cluster.send(&admin(), "DELETE", &path, Value::Null).await.0),
                    1 => {
                        let grow =
                            json!({ "spec": { "resources": { "requests": { "storage": format!("{size}Gi") } } } });
                        (1, cluster.send(&admin(), "PATCH", &path, grow).await.0)
                    }
                    _ => {
                        let mut new = claim(&name, &format!("{size}Gi"));
                        new["spec"]["storageClassName"] = "grows".into();
                        // Without the finalizer that would keep it until a controller comes.
                        let (code, _) = cluster.post(&admin(), CLAIMS, new).await;
                        let bound = json!({ "metadata": { "finalizers": null } });
                        cluster.send(&admin(), "PATCH", &path, bound).await;
                        let status = json!({ "status": { "phase": "Bound", "capacity": { "storage": "1Gi" } } });
                        cluster.send(&admin(), "PATCH", &format!("{path}/status"), status).await;
                        (0, code)
                    }
                };
                done[which] += usize::from(code < 300);
                let (_, list) = cluster.get(&admin(), CLAIMS).await;
                let claims = list["items"].as_array().unwrap();
                let size = |claim: &Value| {
                    let text = claim["spec"]["resources"]["requests"]["storage"].as_str().unwrap().to_owned();
                    text.trim_end_matches("Gi").parse::<i64>().unwrap()
                };
                let sum: i64 = claims.iter().map(size).sum();
                assert!(sum <= HARD_GIB && claims.len() <= 8, "SEED={seed}: {sum} Gi in {} claims", claims.len());
            }
            done
        });
    }
    let done = tasks.join_all().await;
    let of = |which: usize| done.iter().map(|done| done[which]).sum::<usize>();
    assert!(of(0) > 0 && of(1) > 0 && of(2) > 0, "all sorts of writes went through: {done:?}");
}

#[tokio::test]
async fn quotas_count_what_is_in_their_scopes() {
    let cluster = cluster().await;
    cluster
        .make("/apis/scheduling.k8s.io/v1/priorityclasses", json!({ "metadata": { "name": "high" }, "value": 10 }))
        .await;
    let selector = |scope: &str, operator: &str, values: &[&str]| json!({ "matchExpressions": [{ "scopeName": scope, "operator": operator, "values": values }] });
    let limited = json!({ "containers": [{ "name": "c", "image": "x",
        "resources": { "requests": { "cpu": "1m", "memory": "1Mi" } } }] });
    let affinity = json!({ "affinity": { "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
        "topologyKey": "kubernetes.io/hostname", "namespaces": ["other"], "labelSelector": {},
    }] } } });
    let deadline = json!({ "activeDeadlineSeconds": 5 });
    let high = json!({ "priorityClassName": "high" });
    let plain = json!({});
    for (at, (what, scopes, selected, out)) in [
        ("Terminating", json!({ "scopes": ["Terminating"] }), &deadline, &plain),
        ("NotTerminating", json!({ "scopes": ["NotTerminating"] }), &plain, &deadline),
        ("BestEffort", json!({ "scopes": ["BestEffort"] }), &plain, &limited),
        ("NotBestEffort", json!({ "scopes": ["NotBestEffort"] }), &limited, &plain),
        ("PriorityClass", json!({ "scopeSelector": selector("PriorityClass", "In", &["high"]) }), &high, &plain),
        ("PriorityClass not", json!({ "scopeSelector": selector("PriorityClass", "NotIn", &["high"]) }), &plain, &high),
        (
            "CrossNamespacePodAffinity",
            json!({ "scopeSelector": selector("CrossNamespacePodAffinity", "Exists", &[]) }),
            &affinity,
            &plain,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let namespace = format!("team-{at}");
        cluster.namespace(&namespace).await;
        let mut spec = scopes;
        spec["hard"] = json!({ "pods": "1" });
        let quotas = format!("/api/v1/namespaces/{namespace}/resourcequotas");
        cluster.make(&quotas, json!({ "metadata": { "name": "q" }, "spec": spec })).await;
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        for (name, spec, expected) in
            [("o1", out, 201), ("o2", out, 201), ("s1", selected, 201), ("s2", selected, 403), ("o3", out, 201)]
        {
            let (code, answer) = cluster.post(&admin(), &pods, pod(name, spec.clone())).await;
            assert_eq!(code, expected, "{what}, {name}: {answer}");
        }
    }
}

#[tokio::test]
async fn quotas_on_compute_want_every_container_to_say() {
    let cluster = cluster().await;
    let quota =
        json!({ "metadata": { "name": "q" }, "spec": { "hard": { "requests.cpu": "1", "limits.memory": "1Gi" } } });
    cluster.make("/api/v1/namespaces/team/resourcequotas", quota).await;
    let (code, answer) = cluster.post(&admin(), PODS, pod("a", json!({}))).await;
    assert_eq!(
        (code, message(&answer)),
        (
            403,
            r#"pods "a" is forbidden: failed quota: q: must specify limits.memory for: main; requests.cpu for: main"#
        )
    );
    let container = |cpu: &str| {
        json!({ "containers": [{ "name": "c", "image": "x", "resources": {
            "requests": { "cpu": cpu }, "limits": { "memory": "10Mi" },
        } }] })
    };
    cluster.make(PODS, pod("b", container("600m"))).await;
    let (code, answer) = cluster.post(&admin(), PODS, pod("c", container("500m"))).await;
    assert_eq!(
        (code, message(&answer)),
        (
            403,
            r#"pods "c" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"#
        )
    );
}
