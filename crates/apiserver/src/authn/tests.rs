use http::{HeaderMap, HeaderValue};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::json;

use super::{bearer_token, impersonate};
use crate::contract::{Credentials, UserInfo};
use crate::pki::{CertificateAuthority, Identity, Leaf, Subject};
use crate::testing::{Cluster, admin, pod, user};

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[test]
fn tokens_are_found_where_clients_put_them() {
    for (what, given, expected) in [
        ("plain", vec![("authorization", "Bearer abc")], Some("abc")),
        ("lower case", vec![("authorization", "bearer abc")], Some("abc")),
        ("spaces", vec![("authorization", "  Bearer   abc ")], Some("abc")),
        ("basic", vec![("authorization", "Basic abc")], None),
        ("empty", vec![("authorization", "Bearer ")], None),
        (
            "websocket",
            vec![("sec-websocket-protocol", "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj")],
            Some("abc"),
        ),
        ("websocket without", vec![("sec-websocket-protocol", "v5.channel.k8s.io")], None),
        ("nothing", vec![], None),
    ] {
        assert_eq!(bearer_token(&headers(&given)).as_deref(), expected, "{what}");
    }
}

fn der(leaf: &Leaf) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes()).unwrap()]
}

async fn who(
    cluster: &Cluster,
    headers: &HeaderMap,
    chain: &[CertificateDer<'static>],
) -> Result<Option<UserInfo>, String> {
    let credentials = Credentials { headers, peer_certificates: chain };
    cluster.security.authenticator.authenticate(credentials).await.map_err(|e| e.to_string())
}

#[tokio::test]
async fn certificates_name_users_and_groups() {
    let cluster = Cluster::bare().await;
    let admin = who(&cluster, &HeaderMap::new(), &der(&cluster.pki.admin)).await.unwrap().unwrap();
    assert_eq!(admin.name, "kubernetes-admin");
    assert_eq!(admin.groups, ["system:masters", "system:authenticated"]);

    assert_eq!(who(&cluster, &HeaderMap::new(), &[]).await, Ok(None), "nobody");
    let unknown = who(&cluster, &headers(&[("authorization", "Bearer nonsense")]), &[]).await;
    assert!(unknown.is_err(), "a token that nobody knows is not the same as none");

    let past = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * 400);
    let authority = CertificateAuthority::generate("old", past).unwrap();
    let expired = authority.issue(&Identity::client(Subject::new("jane", None)), past).unwrap();
    let expired = who(&cluster, &HeaderMap::new(), &der(&expired)).await;
    assert!(expired.unwrap_err().contains("jane"), "a certificate may expire while its connection lasts");
}

#[tokio::test]
async fn tokens_live_and_die_with_what_they_are_bound_to() {
    let cluster = Cluster::start().await;
    cluster.namespace("team").await;
    let account =
        cluster.make("/api/v1/namespaces/team/serviceaccounts", json!({ "metadata": { "name": "robot" } })).await;
    let made = cluster.make("/api/v1/namespaces/team/pods", pod("p", json!({ "serviceAccountName": "robot" }))).await;
    let request = json!({ "spec": {
        "expirationSeconds": 3600,
        "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "p", "uid": made["metadata"]["uid"] },
    } });
    let token = |answer: &serde_json::Value| answer["status"]["token"].as_str().unwrap().to_owned();
    let path = "/api/v1/namespaces/team/serviceaccounts/robot/token";
    let bound = token(&cluster.make(path, request).await);
    let free = token(&cluster.make(path, json!({ "spec": {} })).await);
    let foreign = token(&cluster.make(path, json!({ "spec": { "audiences": ["vault"] } })).await);

    let ask = async |token: &str| who(&cluster, &headers(&[("authorization", &format!("Bearer {token}"))]), &[]).await;
    let found = ask(&bound).await.unwrap().unwrap();
    assert_eq!(found.name, "system:serviceaccount:team:robot");
    assert_eq!(found.uid, account["metadata"]["uid"].as_str().unwrap());
    assert_eq!(found.groups, ["system:serviceaccounts", "system:serviceaccounts:team", "system:authenticated"]);
    assert_eq!(found.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert!(ask(&foreign).await.is_err(), "made for somebody else");
    let (head, tail) = bound.split_at(bound.len() - 10);
    assert!(ask(&format!("{head}AAAA{}", &tail[4..])).await.is_err(), "a changed signature");

    let (code, answer) = cluster
        .send(&admin(), "DELETE", "/api/v1/namespaces/team/pods/p?gracePeriodSeconds=0", serde_json::Value::Null)
        .await;
    assert_eq!(code, 200, "{answer}");
    cluster.settle().await;
    assert!(ask(&bound).await.is_err(), "its pod is gone");
    assert!(ask(&free).await.is_ok(), "it was bound to no pod");

    let accounts = "/api/v1/namespaces/team/serviceaccounts";
    cluster.send(&admin(), "DELETE", &format!("{accounts}/robot"), serde_json::Value::Null).await;
    cluster.make(accounts, json!({ "metadata": { "name": "robot" } })).await;
    assert!(ask(&free).await.is_err(), "a namesake made later is another account");
}

#[tokio::test]
async fn impersonation_needs_the_right_to_it() {
    let cluster = Cluster::start().await;
    let role = json!({
        "metadata": { "name": "impersonator" },
        "rules": [
            { "apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["jane"] },
            { "apiGroups": [""], "resources": ["groups"], "verbs": ["impersonate"], "resourceNames": ["devs"] },
            { "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"], "verbs": ["impersonate"] },
        ],
    });
    cluster.make("/apis/rbac.authorization.k8s.io/v1/clusterroles", role).await;
    let binding = json!({
        "metadata": { "name": "impersonator" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "impersonator" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob" }],
    });
    cluster.make("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;

    for (who, given, expected) in [
        (admin(), vec![], Ok(None)),
        (user("bob", &[]), vec![("impersonate-user", "jane")], Ok(Some(("jane", vec!["system:authenticated"])))),
        (
            user("bob", &[]),
            vec![("impersonate-user", "jane"), ("impersonate-group", "devs"), ("impersonate-extra-scopes", "view")],
            Ok(Some(("jane", vec!["devs", "system:authenticated"]))),
        ),
        (user("bob", &[]), vec![("impersonate-user", "mary")], Err(403)),
        (user("bob", &[]), vec![("impersonate-user", "jane"), ("impersonate-group", "system:masters")], Err(403)),
        (user("bob", &[]), vec![("impersonate-user", "jane"), ("impersonate-uid", "1")], Err(403)),
        (user("bob", &[]), vec![("impersonate-user", "jane"), ("impersonate-extra-other", "x")], Err(403)),
        (user("bob", &[]), vec![("impersonate-group", "devs")], Err(400)),
        (user("eve", &[]), vec![("impersonate-user", "jane")], Err(403)),
        (
            admin(),
            vec![("impersonate-user", "system:serviceaccount:team:robot")],
            Ok(Some((
                "system:serviceaccount:team:robot",
                vec!["system:serviceaccounts", "system:serviceaccounts:team", "system:authenticated"],
            ))),
        ),
        (
            admin(),
            vec![("impersonate-user", "system:anonymous")],
            Ok(Some(("system:anonymous", vec!["system:unauthenticated"]))),
        ),
    ] {
        let found = impersonate(&*cluster.security.authorizer, &who, &headers(&given)).await;
        let found = found.map(|user| user.map(|user| (user.name, user.groups))).map_err(|e| e.code());
        let expected = expected.map(|user: Option<(&str, Vec<&str>)>| {
            user.map(|(name, groups)| (name.to_owned(), groups.into_iter().map(str::to_owned).collect::<Vec<_>>()))
        });
        assert_eq!(found, expected, "{} with {given:?}", who.name);
    }
}

#[tokio::test]
async fn bootstrap_tokens_speak_for_machines_that_join() {
    let cluster = Cluster::bare().await;
    cluster.namespace("kube-system").await;
    let group = "system:bootstrappers:kubeadm:default-node-token";
    let good = json!({
        "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
            "auth-extra-groups": group, "expiration": "2199-01-01T00:00:00Z",
        },
    });
    for (what, token, change, expected) in [
        ("good", "abcdef.0123456789abcdef", json!({}), true),
        ("for ever", "abcdef.0123456789abcdef", json!({"stringData": {"expiration": null}}), true),
        ("guessed", "abcdef.0123456789abcdee", json!({}), false),
        ("another", "abcdeg.0123456789abcdef", json!({}), false),
        ("expired", "abcdef.0123456789abcdef", json!({"stringData": {"expiration": "2020-01-01T00:00:00Z"}}), false),
        (
            "for signing",
            "abcdef.0123456789abcdef",
            json!({"stringData": {"usage-bootstrap-authentication": "no"}}),
            false,
        ),
        ("mislabelled", "abcdef.0123456789abcdef", json!({"stringData": {"token-id": "abcdeg"}}), false),
        ("too much", "abcdef.0123456789abcdef", json!({"stringData": {"auth-extra-groups": "system:masters"}}), false),
        ("any secret", "abcdef.0123456789abcdef", json!({"type": "Opaque"}), false),
    ] {
        let secret = knarr_api::patch::merge_patch(&good, &change).unwrap();
        let path = "/api/v1/namespaces/kube-system/secrets";
        cluster.make(path, secret).await;
        let given = headers(&[("authorization", &format!("Bearer {token}"))]);
        let found = who(&cluster, &given, &[]).await.ok().flatten();
        assert_eq!(found.is_some(), expected, "{what}: {found:?}");
        if let Some(user) = found {
            assert_eq!(user.name, "system:bootstrap:abcdef");
            assert_eq!(user.groups, ["system:bootstrappers", group, "system:authenticated"]);
        }
        cluster.send(&admin(), "DELETE", &format!("{path}/bootstrap-token-abcdef"), json!({})).await;
    }
}
