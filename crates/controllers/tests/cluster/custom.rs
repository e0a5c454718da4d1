//! Controllers that work on whatever is served: objects of definitions have owners, namespaces and quotas.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ResourceQuota};
use knarr_client::call;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::{
    get,
    harness::{Cluster, start},
};

async fn send(cluster: &Cluster, method: http::Method, path: &str, body: Option<Value>) -> Option<Value> {
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
    knarr_client::errors::optional(cluster.client.request(request.body(body).unwrap()).await).unwrap()
}

async fn establish(cluster: &Cluster) {
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
    });
    send(cluster, http::Method::POST, path, Some(definition)).await;
    cluster.eventually("widgets to be served", || async { widget(cluster, "default", "none").await.is_ok() }).await;
}

/// An error where there is no such resource.
async fn widget(cluster: &Cluster, namespace: &str, name: &str) -> Result<Option<Value>, ()> {
    let collection = format!("/apis/example.com/v1/namespaces/{namespace}/widgets");
    send(cluster, http::Method::GET, &collection, None).await.ok_or(())?;
    Ok(send(cluster, http::Method::GET, &format!("{collection}/{name}"), None).await)
}

async fn make(cluster: &Cluster, namespace: &str, name: &str, owner: Option<Value>) -> Value {
    let path = format!("/apis/example.com/v1/namespaces/{namespace}/widgets");
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": name, "ownerReferences": owner.into_iter().collect::<Vec<_>>()}});
    send(cluster, http::Method::POST, &path, Some(widget)).await.unwrap()
}

fn owner(object: &Value) -> Value {
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "name": object["metadata"]["name"],
        "uid": object["metadata"]["uid"]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_resources_own_and_are_owned() {
    let cluster = start(0).await;
    establish(&cluster).await;
    let parent = make(&cluster, "default", "parent", None).await;
    let child = make(&cluster, "default", "child", Some(owner(&parent))).await;
    cluster
        .create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "grandchild",
            "namespace": "default", "ownerReferences": [owner(&child)]}}))
        .await;
    let path = "/apis/example.com/v1/namespaces/default/widgets/parent";
    send(&cluster, http::Method::DELETE, path, None).await;
    cluster
        .eventually("what the widget owned to go", || async {
            widget(&cluster, "default", "child").await == Ok(None)
                && get::<ConfigMap>(&cluster, "grandchild").await.is_none()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_takes_its_custom_resources_along() {
    let cluster = start(0).await;
    establish(&cluster).await;
    cluster.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "toys"}})).await;
    make(&cluster, "toys", "one", None).await;
    make(&cluster, "default", "two", None).await;
    let namespace = call::get::<Namespace>(&cluster.client, "", "toys").await.unwrap().unwrap();
    call::delete(&cluster.client, &namespace, DeleteParams::default()).await.unwrap();
    cluster
        .eventually("the namespace to go", || async {
            call::get::<Namespace>(&cluster.client, "", "toys").await.unwrap().is_none()
        })
        .await;
    assert_eq!(widget(&cluster, "toys", "one").await, Ok(None));
    assert!(widget(&cluster, "default", "two").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_waits_for_servers_that_say_nothing() {
    let cluster = start(0).await;
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let silent = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.wardle.example.com"},
        "spec": {"group": "wardle.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 10,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "nobody"}}});
    send(&cluster, http::Method::POST, services, Some(silent)).await;
    cluster.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "toys"}})).await;
    let namespace = || async { call::get::<Namespace>(&cluster.client, "", "toys").await.unwrap() };
    call::delete(&cluster.client, &namespace().await.unwrap(), DeleteParams::default()).await.unwrap();
    cluster
        .eventually("the namespace to say what it waits for", || async {
            let status = namespace().await.and_then(|namespace| namespace.status).unwrap_or_default();
            status.conditions.into_iter().flatten().any(|condition| {
                (&*condition.type_, &*condition.status) == ("NamespaceDeletionDiscoveryFailure", "True")
                    && condition.reason.as_deref() == Some("DiscoveryFailed")
            })
        })
        .await;
    send(&cluster, http::Method::DELETE, &format!("{services}/v1.wardle.example.com"), None).await;
    cluster.eventually("the namespace to go", || async { namespace().await.is_none() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_counts_custom_resources_and_holds_their_number() {
    let cluster = start(0).await;
    cluster
        .create(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "default"},
            "spec": {"hard": {"count/widgets.example.com": "2"}}}))
        .await;
    establish(&cluster).await;
    let used = |wanted: &'static str| {
        let cluster = &cluster;
        move || async move {
            let quota = get::<ResourceQuota>(cluster, "q").await.unwrap();
            let used = serde_json::to_value(quota.status.unwrap_or_default().used).unwrap();
            used["count/widgets.example.com"] == wanted
        }
    };
    cluster.eventually("nothing to be used", used("0")).await;
    make(&cluster, "default", "one", None).await;
    make(&cluster, "default", "two", None).await;
    cluster.eventually("two to be used", used("2")).await;
    let path = "/apis/example.com/v1/namespaces/default/widgets";
    let third = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "three"}});
    let request = http::Request::post(path).header("content-type", "application/json");
    let refused = cluster.client.request_text(request.body(third.to_string().into_bytes()).unwrap()).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("exceeded quota: q, requested: count/widgets.example.com=1"), "{refused}");
}
