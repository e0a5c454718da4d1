use serde_json::{Value, json};

use crate::testing::{Cluster, admin, message, node, pod, user};

const PODS: &str = "/api/v1/namespaces/team/pods";

async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.namespace("team").await;
    cluster
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let cluster = cluster().await;
    cluster.make(PODS, pod("p", json!({}))).await;
    let binding = |node: &str| json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": node } });
    let scheduler = user("system:kube-scheduler", &[]);
    let path = format!("{PODS}/p/binding");
    let (code, answer) = cluster.post(&scheduler, &path, binding("n1")).await;
    assert_eq!((code, &answer["status"]), (201, &json!("Success")), "{answer}");
    let (code, answer) = cluster.post(&scheduler, &path, binding("n2")).await;
    assert_eq!(
        (code, message(&answer)),
        (409, r#"Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1""#)
    );
    let (_, found) = cluster.get(&admin(), &format!("{PODS}/p")).await;
    assert_eq!(found["spec"]["nodeName"], "n1");
    let scheduled = &found["status"]["conditions"][0];
    assert_eq!((&scheduled["type"], &scheduled["status"]), (&json!("PodScheduled"), &json!("True")));

    cluster.make(PODS, pod("q", json!({ "schedulingGates": [{ "name": "example.org/wait" }] }))).await;
    let (code, answer) = cluster.post(&scheduler, &format!("{PODS}/q/binding"), binding("n1")).await;
    assert_eq!(code, 400, "another's name: {answer}");
    let gated = json!({ "metadata": { "name": "q" }, "target": { "kind": "Node", "name": "n1" } });
    let (code, answer) = cluster.post(&scheduler, "/api/v1/namespaces/team/bindings", gated).await;
    assert_eq!(code, 409, "{answer}");
    let (code, _) = cluster.post(&user("eve", &[]), &path, binding("n1")).await;
    assert_eq!(code, 403);
}

#[tokio::test]
async fn evictions_respect_budgets() {
    let cluster = cluster().await;
    let budgets = "/apis/policy/v1/namespaces/team/poddisruptionbudgets";
    let budget = json!({ "metadata": { "name": "b" }, "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "x" } } } });
    cluster.make(budgets, budget).await;
    for name in ["p1", "p2", "free"] {
        let mut new = pod(name, json!({}));
        if name != "free" {
            new["metadata"]["labels"] = json!({ "app": "x" });
        }
        cluster.make(PODS, new).await;
        let status = json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
        let (code, answer) = cluster.send(&admin(), "PATCH", &format!("{PODS}/{name}/status"), status).await;
        assert_eq!(code, 200, "{answer}");
    }
    cluster.settle().await;
    let evict = async |name: &str, path: &str| {
        let body = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": name } });
        let (code, answer) = cluster.post(&admin(), &format!("{PODS}/{name}/eviction{path}"), body).await;
        cluster.settle().await;
        (code, answer)
    };
    let (code, answer) = evict("p1", "").await;
    assert_eq!(code, 429, "the budget was not looked at by its controller yet: {answer}");
    assert_eq!(answer["details"]["causes"][0]["reason"], "DisruptionBudget");

    let seen = json!({ "status": {
        "observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2,
    } });
    let (code, answer) = cluster.send(&admin(), "PATCH", &format!("{budgets}/b/status"), seen).await;
    assert_eq!(code, 200, "{answer}");
    cluster.settle().await;
    assert_eq!(evict("p1", "?dryRun=All").await.0, 201);
    assert_eq!(evict("p1", "").await.0, 201);
    let (_, after) = cluster.get(&admin(), &format!("{budgets}/b")).await;
    assert_eq!(after["status"]["disruptionsAllowed"], 0);
    assert!(after["status"]["disruptedPods"]["p1"].is_string(), "{after}");
    let (code, answer) = evict("p2", "").await;
    assert_eq!((code, message(&answer)), (429, "Cannot evict pod as it would violate the pod's disruption budget."));
    assert_eq!(
        answer["details"]["causes"][0]["message"],
        "The disruption budget b needs 1 healthy pods and has 2 currently"
    );
    assert_eq!(evict("free", "").await.0, 201, "no budget selects it");
    assert_eq!(evict("ghost", "").await.0, 404);
}

#[tokio::test]
async fn reviews_say_who_may_do_what() {
    let cluster = cluster().await;
    let binding = json!({
        "metadata": { "name": "v" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "vera" }],
    });
    cluster.make("/apis/rbac.authorization.k8s.io/v1/namespaces/team/rolebindings", binding).await;
    let vera = user("vera", &[]);
    let group = "/apis/authorization.k8s.io/v1";
    let ask = |verb: &str, resource: &str| json!({ "spec": { "resourceAttributes": { "namespace": "team", "verb": verb, "resource": resource } } });
    for (verb, resource, expected) in [("list", "pods", true), ("delete", "pods", false), ("get", "secrets", false)] {
        let path = format!("{group}/selfsubjectaccessreviews");
        let (code, answer) = cluster.post(&vera, &path, ask(verb, resource)).await;
        assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(expected)), "{verb} {resource}: {answer}");
        let mut of_another = ask(verb, resource);
        of_another["spec"]["user"] = "vera".into();
        let (code, answer) = cluster.post(&admin(), &format!("{group}/subjectaccessreviews"), of_another.clone()).await;
        assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(expected)), "{answer}");
        let local = format!("{group}/namespaces/team/localsubjectaccessreviews");
        let (code, answer) = cluster.post(&admin(), &local, of_another).await;
        assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(expected)), "{answer}");
    }
    let (_, answer) = cluster.post(&vera, &format!("{group}/selfsubjectaccessreviews"), ask("list", "pods")).await;
    assert_eq!(
        answer["status"]["reason"],
        r#"RBAC: allowed by RoleBinding "v/team" of ClusterRole "view" to User "vera""#
    );
    let (code, answer) = cluster.post(&vera, &format!("{group}/selfsubjectaccessreviews"), json!({ "spec": {} })).await;
    assert_eq!(code, 422, "{answer}");
    let (code, _) = cluster.post(&vera, &format!("{group}/subjectaccessreviews"), ask("list", "pods")).await;
    assert_eq!(code, 403, "asking about others is a right of its own");

    let rules = json!({ "spec": { "namespace": "team" } });
    let (code, answer) = cluster.post(&vera, &format!("{group}/selfsubjectrulesreviews"), rules).await;
    assert_eq!(code, 201);
    let lists_pods = |rule: &Value| {
        rule["resources"].as_array().unwrap().contains(&json!("pods"))
            && rule["verbs"].as_array().unwrap().contains(&json!("list"))
    };
    assert!(answer["status"]["resourceRules"].as_array().unwrap().iter().any(lists_pods), "{answer}");
    assert_eq!(answer["status"]["incomplete"], false);

    let (code, answer) = cluster.post(&vera, "/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({})).await;
    assert_eq!((code, &answer["status"]["userInfo"]["username"]), (201, &json!("vera")), "{answer}");
}

#[tokio::test]
async fn tokens_are_made_and_reviewed() {
    let cluster = cluster().await;
    let path = "/api/v1/namespaces/team/serviceaccounts/default/token";
    let made = cluster.make(path, json!({ "spec": { "audiences": ["vault"], "expirationSeconds": 600 } })).await;
    assert_eq!(made["spec"]["audiences"], json!(["vault"]));
    let token = made["status"]["token"].clone();
    for (audiences, expected) in [(json!(["vault", "other"]), true), (json!(["other"]), false), (json!([]), false)] {
        let review = json!({ "spec": { "token": token, "audiences": audiences } });
        let (code, answer) = cluster.post(&admin(), "/apis/authentication.k8s.io/v1/tokenreviews", review).await;
        assert_eq!(code, 201);
        let status = &answer["status"];
        assert_eq!(status["authenticated"].as_bool().unwrap_or(false), expected, "{answer}");
        if expected {
            assert_eq!(status["audiences"], json!(["vault"]));
            assert_eq!(status["user"]["username"], "system:serviceaccount:team:default");
        }
    }
    for (what, spec, expected) in [
        ("too short", json!({ "expirationSeconds": 60 }), 422),
        (
            "a pod that is not there",
            json!({ "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "x" } }),
            404,
        ),
        (
            "bound to what has no life",
            json!({ "boundObjectRef": { "kind": "ConfigMap", "apiVersion": "v1", "name": "x" } }),
            400,
        ),
    ] {
        let (code, answer) = cluster.post(&admin(), path, json!({ "spec": spec })).await;
        assert_eq!(code, expected, "{what}: {answer}");
    }
    let (code, _) = cluster.post(&node("n1"), path, json!({ "spec": {} })).await;
    assert_eq!(code, 403);
}

#[tokio::test]
async fn logs_of_a_pod_without_a_node_are_empty() {
    let cluster = cluster().await;
    cluster.make(PODS, pod("p", json!({}))).await;
    let (code, answer) = cluster.get(&admin(), &format!("{PODS}/p/log")).await;
    assert_eq!((code, answer), (204, json!("")));
    let (code, answer) = cluster.get(&admin(), &format!("{PODS}/p/exec?command=sh")).await;
    assert_eq!((code, message(&answer)), (400, "pod p does not have a host assigned"));
    let (code, answer) = cluster.get(&admin(), &format!("{PODS}/p/log?container=x")).await;
    assert_eq!((code, message(&answer)), (400, "container x is not valid for pod p"));
}

#[tokio::test]
async fn access_reviews_say_what_is_wrong_with_them() {
    let cluster = cluster().await;
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let with = |key: &str, selector: serde_json::Value| {
        let mut resource = json!({ "verb": "list", "resource": "pods" });
        resource[key] = selector;
        json!({ "spec": { "user": "anna", "resourceAttributes": resource } })
    };
    let term = |key: &str, operator: &str, values: &[&str]| json!({ "requirements": [{ "key": key, "operator": operator, "values": values }] });
    for (review, expected) in [
        (with("fieldSelector", json!({ "rawSelector": "spec.nodeName=n" })), ""),
        (with("fieldSelector", term("spec.nodeName", "In", &["n"])), ""),
        (with("labelSelector", term("app", "Unheard", &[])), ""),
        (
            with("fieldSelector", json!({})),
            "spec.resourceAttributes.fieldSelector.requirements: Required value: when \
             spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required",
        ),
        (
            with(
                "labelSelector",
                json!({ "rawSelector": "a", "requirements": [{ "key": "a", "operator": "Exists" }] }),
            ),
            "spec.resourceAttributes.labelSelector.rawSelector: Invalid value: \"a\": may not specified at the same time \
             as requirements",
        ),
        (
            with("fieldSelector", term("a", "In", &[])),
            "requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ),
        (
            with("labelSelector", term("a", "Exists", &["b"])),
            "requirements[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        (with("labelSelector", term("-", "Exists", &[])), "requirements[0].key: Invalid value: \"-\""),
        (
            json!({ "metadata": { "name": "x" }, "spec": { "user": "a", "nonResourceAttributes": { "path": "/" } } }),
            "must be empty",
        ),
    ] {
        let (code, answer) = cluster.post(&admin(), path, review.clone()).await;
        let wanted = if expected.is_empty() { 201 } else { 422 };
        assert!(code == wanted && message(&answer).contains(expected), "{review}: {answer}");
    }
    // A node may list the pods that are on it, and no others.
    let on = |name: &str| {
        let mut review = with("fieldSelector", term("spec.nodeName", "In", &[name]));
        review["spec"]["user"] = "system:node:n1".into();
        review["spec"]["groups"] = json!(["system:nodes"]);
        review
    };
    for (name, expected) in [("n1", true), ("n2", false)] {
        let (_, answer) = cluster.post(&admin(), path, on(name)).await;
        assert_eq!(answer["status"]["allowed"], expected, "{answer}");
    }
}
