use serde_json::{Value, json};

use crate::authn::{component, controller};
use crate::authz::Rule;
use crate::contract::{Attributes, Decision, UserInfo};
use crate::testing::{Cluster, admin, node, user};

#[test]
fn default_objects_have_unique_names() {
    let names = |objects: &[Value]| {
        let mut names: Vec<String> = objects.iter().map(|o| crate::json::name(o).to_owned()).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        names
    };
    let roles = names(&super::policy::cluster_roles());
    let bindings = super::bindings::cluster_role_bindings();
    names(&bindings);
    for binding in &bindings {
        let role = binding["roleRef"]["name"].as_str().unwrap().to_owned();
        assert!(roles.contains(&role), "{role} is bound but not defined");
    }
    names(&super::flow_control::flow_schemas());
}

#[test]
fn rules_are_complete() {
    for role in super::policy::cluster_roles() {
        let rules: Vec<Rule> = serde_json::from_value(role["rules"].clone()).unwrap();
        for rule in rules {
            assert!(!rule.verbs.is_empty(), "{role}");
            let is_for_resources = !rule.resources.is_empty() && !rule.api_groups.is_empty();
            assert_eq!(is_for_resources, rule.non_resource_urls.is_empty(), "{role}");
        }
    }
}

#[tokio::test]
async fn a_second_start_changes_nothing_and_repairs_what_was_broken() {
    let cluster = Cluster::bare().await;
    let first = cluster.bootstrap().await;
    assert!(first.created > 150 && first.changed == 0 && first.kept == 0, "{first:?}");
    let second = cluster.bootstrap().await;
    // The storage class is made at the first start only.
    assert_eq!((second.created, second.changed, second.kept), (0, 0, first.created - 1));
    let class = "/apis/storage.k8s.io/v1/storageclasses/local";
    let (_, found) = cluster.get(&admin(), class).await;
    assert_eq!(found["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"], "true");
    cluster.send(&admin(), "DELETE", class, Value::Null).await;
    cluster.settle().await;
    assert_eq!(cluster.bootstrap().await.created, 0, "what a user deleted stays deleted");

    let root = admin();
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/system:basic-user";
    let (code, answer) = cluster.send(&root, "PATCH", path, json!({ "subjects": null })).await;
    assert_eq!(code, 200, "{answer}");
    let discovery = "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:discovery";
    let own = json!([{ "verbs": ["get"], "nonResourceURLs": ["/mine"] }]);
    cluster.send(&root, "PATCH", discovery, json!({ "rules": own })).await;
    let kept = "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:kube-dns";
    let taken_over = json!({
        "metadata": { "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "false" } }, "rules": [],
    });
    cluster.send(&root, "PATCH", kept, taken_over).await;
    cluster.settle().await;

    let third = cluster.bootstrap().await;
    assert_eq!((third.created, third.changed), (0, 2));
    let (_, binding) = cluster.get(&root, path).await;
    assert_eq!(binding["subjects"][0]["name"], "system:authenticated");
    let (_, role) = cluster.get(&root, discovery).await;
    let rules = role["rules"].as_array().unwrap();
    assert!(rules.len() > 1 && rules[0]["nonResourceURLs"] == json!(["/mine"]), "a user's own rule stays: {role}");
    let (_, role) = cluster.get(&root, kept).await;
    assert!(role["rules"].as_array().is_none_or(Vec::is_empty), "what a user took over stays as it is: {role}");
}

#[tokio::test]
async fn the_cluster_starts_with_what_pods_need() {
    let cluster = Cluster::start().await;
    let root = admin();
    for (path, pointer, expected) in [
        ("/api/v1/namespaces/kube-node-lease", "/status/phase", json!("Active")),
        ("/api/v1/namespaces/default/services/kubernetes", "/spec/clusterIP", json!("10.96.0.1")),
        ("/api/v1/namespaces/default/services/kubernetes", "/spec/ports/0/targetPort", json!(6443)),
        ("/api/v1/namespaces/default/endpoints/kubernetes", "/subsets/0/addresses/0/ip", json!("192.0.2.1")),
        (
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
            "/endpoints/0/addresses/0",
            json!("192.0.2.1"),
        ),
        ("/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical", "/value", json!(2_000_001_000)),
        ("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/catch-all", "/spec/matchingPrecedence", json!(10000)),
        ("/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations/exempt", "/spec/type", json!("Exempt")),
        ("/apis/networking.k8s.io/v1/servicecidrs/kubernetes", "/spec/cidrs/0", json!("10.96.0.0/24")),
        ("/apis/networking.k8s.io/v1/servicecidrs/kubernetes", "/status/conditions/0/status", json!("True")),
        ("/apis/networking.k8s.io/v1/ipaddresses/10.96.0.1", "/spec/parentRef/name", json!("kubernetes")),
    ] {
        let (code, object) = cluster.get(&root, path).await;
        assert_eq!(code, 200, "{path}: {object}");
        assert_eq!(object.pointer(pointer), Some(&expected), "{path} {pointer}");
    }
}

async fn may(cluster: &Cluster, user: &UserInfo, asked: &str) -> bool {
    // verb, resource[/subresource][.group], namespace
    let words: Vec<&str> = asked.split_whitespace().collect();
    let (resource, group) = words[1].split_once('.').unwrap_or((words[1], ""));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let attributes = Attributes {
        user,
        verb: words[0],
        namespace: words.get(2).copied().unwrap_or_default(),
        group,
        version: "v1",
        resource,
        subresource,
        name: "x",
        field_selector: "",
        path: "",
        is_resource: true,
    };
    cluster.security.authorizer.authorize(&attributes).await == Decision::Allow
}

/// What Knarr's own components do, with the rights that the default roles give them.
#[tokio::test]
async fn components_may_do_their_work_and_not_more() {
    let cluster = Cluster::start().await;
    let rows: [(UserInfo, &[&str], &[&str]); 19] = [
        (
            controller("deployment-controller"),
            &[
                "get deployments.apps ns",
                "patch deployments.apps ns",
                "update deployments/status.apps ns",
                "create replicasets.apps ns",
                "update replicasets.apps ns",
                "patch replicasets.apps ns",
                "delete replicasets.apps ns",
                "create events.events.k8s.io ns",
                "patch events.events.k8s.io ns",
            ],
            &["create pods ns", "get secrets ns", "delete deployments.apps ns"],
        ),
        (
            controller("replicaset-controller"),
            &[
                "get replicasets.apps ns",
                "update replicasets/status.apps ns",
                "create pods ns",
                "delete pods ns",
                "patch pods ns",
                "create events ns",
            ],
            &["create deployments.apps ns", "get secrets ns"],
        ),
        (
            controller("endpointslice-controller"),
            &[
                "create endpointslices.discovery.k8s.io ns",
                "update endpointslices.discovery.k8s.io ns",
                "delete endpointslices.discovery.k8s.io ns",
            ],
            &["delete services ns"],
        ),
        (
            controller("endpointslicemirroring-controller"),
            &[
                "list endpoints",
                "create endpointslices.discovery.k8s.io ns",
                "update endpointslices.discovery.k8s.io ns",
                "delete endpointslices.discovery.k8s.io ns",
                "create events.events.k8s.io ns",
            ],
            &["update endpoints ns"],
        ),
        (
            controller("endpoint-controller"),
            &["create endpoints ns", "update endpoints ns", "delete endpoints ns"],
            &["delete pods ns"],
        ),
        (
            controller("namespace-controller"),
            &[
                "update namespaces/status",
                "update namespaces/finalize",
                "delete anything.example.org ns",
                "list anything.example.org ns",
                "deletecollection pods ns",
            ],
            &["create pods ns"],
        ),
        (controller("service-account-controller"), &["create serviceaccounts ns"], &["delete serviceaccounts ns"]),
        (controller("root-ca-cert-publisher"), &["create configmaps ns", "update configmaps ns"], &["get secrets ns"]),
        (
            controller("kube-apiserver-serving-clustertrustbundle-publisher"),
            &["update clustertrustbundles.certificates.k8s.io", "delete clustertrustbundles.certificates.k8s.io"],
            &["attest signers.certificates.k8s.io", "get secrets ns"],
        ),
        (
            controller("job-controller"),
            &["get jobs.batch ns", "update jobs/status.batch ns", "create pods ns", "patch pods ns", "delete pods ns"],
            &["create jobs.batch ns"],
        ),
        (
            controller("ttl-after-finished-controller"),
            &["get jobs.batch ns", "delete jobs.batch ns"],
            &["delete pods ns"],
        ),
        (controller("pod-garbage-collector"), &["delete pods ns", "patch pods/status ns"], &["delete nodes"]),
        (
            controller("disruption-controller"),
            &["update poddisruptionbudgets/status.policy ns", "get deployments/scale.apps ns", "patch pods/status ns"],
            &["delete pods ns"],
        ),
        (
            component("system:kube-proxy"),
            &["watch services", "list endpointslices.discovery.k8s.io", "get nodes"],
            &["list secrets", "create services ns"],
        ),
        (controller("service-lb-controller"), &["patch services/status ns"], &["patch services ns"]),
        (
            controller("generic-garbage-collector"),
            &["delete anything.example.org ns", "patch anything.example.org ns", "get anything.example.org ns"],
            &["create pods ns"],
        ),
        (
            controller("node-controller"),
            &["patch nodes", "update nodes/status", "delete pods ns", "patch pods/status ns"],
            &["create pods ns"],
        ),
        (
            component("system:kube-scheduler"),
            &[
                "list pods",
                "watch nodes",
                "create pods/binding ns",
                "patch pods/status ns",
                "delete pods ns",
                "create events.events.k8s.io ns",
            ],
            &["create pods ns", "get secrets ns"],
        ),
        (
            component("system:kube-controller-manager"),
            &["list anything.example.org", "watch secrets"],
            &["delete pods ns"],
        ),
    ];
    for (user, allowed, refused) in rows {
        for asked in allowed {
            assert!(may(&cluster, &user, asked).await, "{} must be allowed to {asked}", user.name);
        }
        for asked in refused {
            assert!(!may(&cluster, &user, asked).await, "{} must not be allowed to {asked}", user.name);
        }
    }
    let agent = node("n1");
    for asked in [
        "create nodes",
        "patch nodes/status",
        "watch services",
        "watch endpointslices.discovery.k8s.io",
        "watch clustertrustbundles.certificates.k8s.io",
        "watch networkpolicies.networking.k8s.io",
        "watch namespaces",
        // Where the others are, for the routes to their pods.
        "list nodes",
        "create leases.coordination.k8s.io kube-node-lease",
        "create events.events.k8s.io ns",
        "patch pods/status ns",
        "delete pods ns",
    ] {
        assert!(may(&cluster, &agent, asked).await, "a node must be allowed to {asked}");
    }
    for asked in [
        "list pods",
        "get secrets ns",
        "create leases.coordination.k8s.io ns",
        "create services ns",
        "get serviceaccounts ns",
    ] {
        assert!(!may(&cluster, &agent, asked).await, "a node must not be allowed to {asked}");
    }
}

#[tokio::test]
async fn roles_for_people_hold_by_aggregation() {
    let cluster = Cluster::start().await;
    cluster.namespace("team").await;
    for (role, name) in [("view", "vera"), ("edit", "ed"), ("admin", "ada")] {
        let binding = json!({
            "metadata": { "name": role },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name }],
        });
        cluster.make("/apis/rbac.authorization.k8s.io/v1/namespaces/team/rolebindings", binding).await;
    }
    let rows = [
        ("list pods team", [true, true, true]),
        ("get pods/log team", [true, true, true]),
        ("get secrets team", [false, true, true]),
        ("create deployments.apps team", [false, true, true]),
        ("create pods/exec team", [false, true, true]),
        ("create rolebindings.rbac.authorization.k8s.io team", [false, false, true]),
        ("list pods", [false, false, false]),
        ("list pods default", [false, false, false]),
        ("get crontabs.example.org team", [true, true, true]),
    ];
    // A role that a user adds to `view` by its label is in `edit` and `admin` too.
    let addition = json!({
        "metadata": { "name": "crontabs-view", "labels": { "rbac.authorization.k8s.io/aggregate-to-view": "true" } },
        "rules": [{ "apiGroups": ["example.org"], "resources": ["crontabs"], "verbs": ["get"] }],
    });
    cluster.make("/apis/rbac.authorization.k8s.io/v1/clusterroles", addition).await;
    for (asked, expected) in rows {
        for (name, expected) in ["vera", "ed", "ada"].into_iter().zip(expected) {
            assert_eq!(may(&cluster, &user(name, &[]), asked).await, expected, "{name}: {asked}");
        }
    }
}
