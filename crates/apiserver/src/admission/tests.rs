use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::testing::{Cluster, admin, message, node, pod, user};

pub(super) const PODS: &str = "/api/v1/namespaces/team/pods";

pub(super) async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.namespace("team").await;
    cluster
}

#[tokio::test]
async fn namespaces_must_exist_and_stay() {
    let cluster = cluster().await;
    let (code, answer) =
        cluster.post(&admin(), "/api/v1/namespaces/nowhere/configmaps", json!({ "metadata": { "name": "a" } })).await;
    assert_eq!((code, message(&answer)), (404, r#"namespaces "nowhere" not found"#));

    let (code, answer) = cluster.send(&admin(), "DELETE", "/api/v1/namespaces/kube-system", Value::Null).await;
    assert_eq!(
        (code, message(&answer)),
        (403, r#"namespaces "kube-system" is forbidden: this namespace may not be deleted"#)
    );

    let (code, answer) = cluster.send(&admin(), "DELETE", "/api/v1/namespaces/team", Value::Null).await;
    assert_eq!(code, 200, "{answer}");
    cluster.settle().await;
    let (code, answer) =
        cluster.post(&admin(), "/api/v1/namespaces/team/configmaps", json!({ "metadata": { "name": "a" } })).await;
    assert_eq!(
        (code, message(&answer)),
        (
            403,
            r#"configmaps "a" is forbidden: unable to create new content in namespace team because it is being terminated"#
        )
    );
    assert_eq!(answer["details"]["causes"][0]["reason"], "NamespaceTerminating");
}

#[tokio::test]
async fn pods_get_their_account_token_and_tolerations() {
    let cluster = cluster().await;
    let made = cluster.make(PODS, pod("a", json!({}))).await;
    let spec = &made["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["serviceAccount"], "default");
    let volume = spec["volumes"][0]["name"].as_str().unwrap();
    assert!(volume.starts_with("kube-api-access-") && volume.len() == 21, "{volume}");
    assert_eq!(spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], 3607);
    let mount = &spec["containers"][0]["volumeMounts"][0];
    assert_eq!(
        *mount,
        json!({ "name": volume, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" })
    );
    let keys: Vec<&Value> = spec["tolerations"].as_array().unwrap().iter().map(|t| &t["key"]).collect();
    assert_eq!(keys, ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]);
    assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(0), &json!("PreemptLowerPriority")));

    assert!(!made.to_string().contains("null"), "nothing that was not there becomes null: {made}");

    let made = cluster.make(PODS, pod("b", json!({ "automountServiceAccountToken": false }))).await;
    assert!(made["spec"]["volumes"].as_array().is_none_or(Vec::is_empty), "{made}");
    let toleration = json!({ "operator": "Exists" });
    let made = cluster.make(PODS, pod("c", json!({ "tolerations": [toleration] }))).await;
    assert_eq!(made["spec"]["tolerations"].as_array().unwrap().len(), 1, "one that tolerates all is enough");

    let (code, answer) = cluster.post(&admin(), PODS, pod("d", json!({ "serviceAccountName": "ghost" }))).await;
    assert_eq!(code, 403);
    assert_eq!(
        message(&answer),
        r#"pods "d" is forbidden: error looking up service account team/ghost: serviceaccount "ghost" not found"#
    );
}

#[tokio::test]
async fn accounts_hand_on_their_pull_secrets() {
    let cluster = cluster().await;
    let account = json!({
        "metadata": { "name": "puller" }, "imagePullSecrets": [{ "name": "reg" }], "automountServiceAccountToken": false,
    });
    cluster.make("/api/v1/namespaces/team/serviceaccounts", account).await;
    let made = cluster.make(PODS, pod("a", json!({ "serviceAccountName": "puller" }))).await;
    assert_eq!(made["spec"]["imagePullSecrets"], json!([{ "name": "reg" }]));
    assert!(made["spec"]["volumes"].as_array().is_none_or(Vec::is_empty), "{made}");
}

#[tokio::test]
async fn priorities_come_from_classes() {
    let cluster = cluster().await;
    let class = |name: &str, value: i64, default: bool| json!({ "metadata": { "name": name }, "value": value, "globalDefault": default, "preemptionPolicy": "Never" });
    let path = "/apis/scheduling.k8s.io/v1/priorityclasses";
    cluster.make(path, class("high", 1000, false)).await;
    let made = cluster.make(PODS, pod("a", json!({ "priorityClassName": "high" }))).await;
    assert_eq!((&made["spec"]["priority"], &made["spec"]["preemptionPolicy"]), (&json!(1000), &json!("Never")));

    for (name, spec, expected) in [
        ("b", json!({ "priorityClassName": "none" }), "no PriorityClass with name none was found"),
        (
            "c",
            json!({ "priorityClassName": "high", "priority": 7 }),
            "the integer value of priority (7) must not be provided in pod spec; priority admission controller \
             computed 1000 from the given PriorityClass name",
        ),
    ] {
        let (code, answer) = cluster.post(&admin(), PODS, pod(name, spec)).await;
        assert_eq!((code, message(&answer)), (403, format!(r#"pods "{name}" is forbidden: {expected}"#).as_str()));
    }
    cluster.make(path, class("usual", 5, true)).await;
    let made = cluster.make(PODS, pod("d", json!({}))).await;
    assert_eq!((&made["spec"]["priority"], &made["spec"]["priorityClassName"]), (&json!(5), &json!("usual")));
    let (code, answer) = cluster.post(&admin(), path, class("other", 6, true)).await;
    assert_eq!(code, 403);
    assert!(message(&answer).contains("PriorityClass usual is already marked as default"), "{answer}");
}

#[tokio::test]
async fn nodes_write_what_is_theirs() {
    let cluster = cluster().await;
    let new = |name: &str, labels: Value| json!({ "metadata": { "name": name, "labels": labels } });
    let nodes = "/api/v1/nodes";
    for (what, who, body, expected) in [
        ("itself", "n1", new("n1", json!({ "kubernetes.io/hostname": "n1" })), 201),
        ("another", "n1", new("n2", json!({})), 403),
        ("a role", "n3", new("n3", json!({ "node-role.kubernetes.io/control-plane": "" })), 403),
    ] {
        let (code, answer) = cluster.post(&node(who), nodes, body).await;
        assert_eq!(code, expected, "{what}: {answer}");
    }
    cluster.settle().await;
    let (_, made) = cluster.get(&admin(), "/api/v1/nodes/n1").await;
    assert_eq!(made["spec"]["taints"], json!([{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }]));
    let patch = json!({ "spec": { "taints": [] } });
    let (code, answer) = cluster.send(&node("n1"), "PATCH", "/api/v1/nodes/n1", patch).await;
    assert_eq!(code, 403);
    assert!(message(&answer).contains("is not allowed to modify taints"), "{answer}");

    cluster.make(PODS, pod("p", json!({ "nodeName": "n1" }))).await;
    let status = json!({ "status": { "phase": "Running" } });
    for (who, expected) in [("n1", 200), ("n2", 403)] {
        let (code, answer) = cluster.send(&node(who), "PATCH", &format!("{PODS}/p/status"), status.clone()).await;
        assert_eq!(code, expected, "{who}: {answer}");
        let lease = json!({ "metadata": { "name": "n1" }, "spec": { "holderIdentity": who } });
        let (code, answer) =
            cluster.post(&node(who), "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", lease).await;
        assert_eq!(code, if who == "n1" { 201 } else { 403 }, "{who}: {answer}");
    }
    let (code, answer) = cluster.post(&node("n1"), PODS, pod("q", json!({ "nodeName": "n1" }))).await;
    assert_eq!(code, 403, "only mirror pods: {answer}");
    let mut mirror = pod("mirror-n1", json!({ "nodeName": "n1" }));
    mirror["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "hash" });
    let (code, answer) = cluster.post(&node("n1"), PODS, mirror).await;
    assert_eq!(code, 201, "{answer}");
    assert!(answer["spec"]["volumes"].as_array().is_none_or(Vec::is_empty), "mirror pods have no token");
    let (code, _) = cluster.send(&node("n2"), "DELETE", &format!("{PODS}/mirror-n1"), Value::Null).await;
    assert_eq!(code, 403);
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_have() {
    let cluster = cluster().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/team";
    let binding = |name: &str, kind: &str, role: &str, to: &str| {
        json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": to }],
        })
    };
    cluster.make(&format!("{rbac}/rolebindings"), binding("ada", "ClusterRole", "admin", "ada")).await;
    let ada = user("ada", &[]);
    let role = |name: &str, resource: &str, verb: &str| {
        json!({
            "metadata": { "name": name },
            "rules": [{ "apiGroups": [""], "resources": [resource], "verbs": [verb] }],
        })
    };
    let mut part = role("nodes-part", "nodes", "delete");
    part["metadata"]["labels"] = json!({ "example.org/part": "nodes" });
    let selector = json!({ "matchLabels": { "example.org/part": "nodes" } });
    let aggregation =
        json!({ "metadata": { "name": "all-nodes" }, "aggregationRule": { "clusterRoleSelectors": [selector] } });
    let cluster_roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    cluster.make(cluster_roles, part).await;
    cluster.make(cluster_roles, aggregation).await;
    for (what, path, body, expected) in [
        ("what she has", "roles", role("reader", "pods", "get"), 201),
        ("what she has not", "roles", role("nodes", "nodes", "delete"), 403),
        ("a role of hers", "rolebindings", binding("r", "Role", "reader", "bob"), 201),
        ("a smaller role", "rolebindings", binding("v", "ClusterRole", "view", "bob"), 201),
        ("everything", "rolebindings", binding("c", "ClusterRole", "cluster-admin", "ada"), 403),
        ("an aggregation of what she has not", "rolebindings", binding("e", "ClusterRole", "all-nodes", "ada"), 403),
    ] {
        let (code, answer) = cluster.post(&ada, &format!("{rbac}/{path}"), body).await;
        assert_eq!(code, expected, "{what}: {answer}");
        if code == 403 {
            assert!(
                message(&answer).contains("is attempting to grant RBAC permissions not currently held"),
                "{answer}"
            );
        }
        cluster.settle().await;
    }
}

#[tokio::test]
async fn limit_ranges_fill_in_and_refuse() {
    let cluster = cluster().await;
    let range = json!({
        "metadata": { "name": "l" },
        "spec": { "limits": [{
            "type": "Container",
            "default": { "cpu": "500m" }, "defaultRequest": { "cpu": "100m" }, "max": { "cpu": "1" }, "min": { "cpu": "50m" },
        }] },
    });
    cluster.make("/api/v1/namespaces/team/limitranges", range).await;
    let made = cluster.make(PODS, pod("a", json!({}))).await;
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({ "limits": { "cpu": "500m" }, "requests": { "cpu": "100m" } })
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container main; cpu limit for container main"
    );
    let container =
        json!([{ "name": "c", "image": "x", "resources": { "limits": { "cpu": "2" }, "requests": { "cpu": "10m" } } }]);
    let (code, answer) = cluster.post(&admin(), PODS, pod("b", json!({ "containers": container }))).await;
    assert_eq!(code, 403);
    assert_eq!(
        message(&answer),
        r#"pods "b" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m, maximum cpu usage per Container is 1, but limit is 2]"#
    );
}

#[tokio::test]
async fn token_secrets_are_filled_in() {
    let cluster = cluster().await;
    let secret = json!({
        "metadata": { "name": "t", "annotations": { "kubernetes.io/service-account.name": "default" } },
        "type": "kubernetes.io/service-account-token",
    });
    let made = cluster.make("/api/v1/namespaces/team/secrets", secret).await;
    let part =
        |key: &str| String::from_utf8(BASE64_STANDARD.decode(made["data"][key].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!(part("namespace"), "team");
    assert_eq!(part("ca.crt"), cluster.pki.authority.certificate_pem());
    let claims = cluster.issuer.open(&part("token")).unwrap();
    assert_eq!(claims.sub, "system:serviceaccount:team:default");
    assert_eq!(claims.bound.secret.unwrap().uid, made["metadata"]["uid"].as_str().unwrap());
}

#[tokio::test]
async fn a_certificate_request_is_one() {
    let cluster = cluster().await;
    let request = |pem: &str| {
        json!({
            "metadata": { "name": "r" },
            "spec": {
                "request": BASE64_STANDARD.encode(pem), "usages": ["client auth"],
                "signerName": "kubernetes.io/kube-apiserver-client",
            },
        })
    };
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let (code, answer) = cluster.post(&admin(), path, request("nonsense")).await;
    assert_eq!(code, 422, "{answer}");
    assert!(message(&answer).ends_with("PEM block type must be CERTIFICATE REQUEST"), "{answer}");
    let key = rcgen::KeyPair::generate().unwrap();
    let good = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let made = cluster.make(path, request(&good)).await;
    assert_eq!(made["spec"]["username"], "kubernetes-admin");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:masters");
    let masters = params.serialize_request(&key).unwrap().pem().unwrap();
    let (code, answer) = cluster.post(&admin(), path, request(&masters)).await;
    assert_eq!(code, 403, "{answer}");
    let why = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
    assert!(message(&answer).ends_with(why), "{answer}");
}

#[tokio::test]
async fn who_may_attest_for_a_signer_says_whom_it_trusts() {
    let cluster = cluster().await;
    let rights = |name: &str, signer: &str| {
        json!({
            "metadata": { "name": name },
            "rules": [
                { "apiGroups": ["certificates.k8s.io"], "resources": ["clustertrustbundles"], "verbs": ["*"] },
                { "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "verbs": ["attest"],
                  "resourceNames": [signer] },
            ],
        })
    };
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    for (name, signer) in [("ann", "a.b/c"), ("bea", "a.b/*"), ("cleo", "a.c/*")] {
        cluster.make(&format!("{rbac}/clusterroles"), rights(name, signer)).await;
        let binding = json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name }],
        });
        cluster.make(&format!("{rbac}/clusterrolebindings"), binding).await;
    }
    let path = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles";
    let bundle = |name: &str, signer: Option<&str>| {
        let pem = cluster.pki.authority.certificate_pem();
        json!({ "metadata": { "name": name }, "spec": { "signerName": signer, "trustBundle": pem } })
    };
    for (name, asked, signer, expected) in [
        ("ann", "a.b:c:ann", Some("a.b/c"), 201),
        ("bea", "a.b:c:bea", Some("a.b/c"), 201),
        ("ann", "a.b:d:ann", Some("a.b/d"), 403),
        ("cleo", "a.b:c:cleo", Some("a.b/c"), 403),
        ("cleo", "plain", None, 201),
    ] {
        let (code, answer) = cluster.post(&user(name, &[]), path, bundle(asked, signer)).await;
        assert_eq!(code, expected, "{name} {asked}: {answer}");
        if code == 403 {
            let why = format!(
                "clustertrustbundles.certificates.k8s.io {asked:?} is forbidden: user not permitted to attest for \
                 signerName {:?}",
                signer.unwrap()
            );
            assert_eq!(message(&answer), why);
        }
    }
    // What selectors see is a statement, too; what garbage collection writes is not.
    let of_ann = format!("{path}/a.b:c:ann");
    for (patch, expected) in [
        (json!({ "metadata": { "labels": { "new": "yes" } } }), 403),
        (json!({ "spec": { "trustBundle": "?" } }), 422),
        (json!({ "metadata": { "finalizers": ["example.com/f"] } }), 200),
        (json!({ "metadata": { "finalizers": null } }), 200),
    ] {
        let (code, answer) = cluster.send(&user("cleo", &[]), "PATCH", &of_ann, patch.clone()).await;
        assert_eq!(code, expected, "{patch}: {answer}");
    }
    let (code, answer) = cluster.send(&user("cleo", &[]), "DELETE", &of_ann, Value::Null).await;
    assert_eq!(code, 200, "{answer}");
}
