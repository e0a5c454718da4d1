//! What a pod wishes for beyond its containers: that it is met, or refused with a reason, and never passed over.

use super::lives::{Cluster, POD, app, condition};
use crate::testing::eventually;
use knarr_cri::v1::{ImageSpec, PullImageRequest};
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn a_volume_beyond_its_size_ends_the_pod() {
    let cluster = Cluster::new();
    let mut spec = app();
    spec["volumes"] = json!([{"name": "v", "emptyDir": {"sizeLimit": "64Ki"}}]);
    cluster.create(spec);
    cluster.until_ready().await;
    let folder = cluster.ctx.pod_dir.join("u1/volumes/kubernetes.io~empty-dir/v");
    std::fs::write(folder.join("big"), vec![1; 100_000]).unwrap();
    let status = cluster.until("evicted", |status| status["phase"] == "Failed").await;
    assert_eq!(status["reason"], "Evicted");
    let message = "Usage of EmptyDir volume \"v\" exceeds the limit \"64Ki\". ";
    assert_eq!((status["message"].as_str(), cluster.api.told("Evicted").as_deref()), (Some(message), Some(message)));
    assert_eq!(condition(&status, "DisruptionTarget"), "True");
    assert_eq!(cluster.runtime.stopped(), [("a".to_owned(), 1)], "an evicted pod has a second");
}

#[tokio::test(start_paused = true)]
async fn connections_on_their_way_arrive_before_the_end() {
    for (selector, least, most) in [(json!({"app": "web"}), 100, 1000), (json!({"app": "other"}), 0, 90)] {
        let cluster = Cluster::new();
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "d"}, "spec": {"selector": selector}});
        cluster.api.put("/api/v1/namespaces/d/services/s", service);
        assert!(cluster.ctx.services.synced().await);
        cluster.create(app());
        cluster.api.change(POD, |pod| pod["metadata"]["labels"] = json!({"app": "web"}));
        cluster.until_ready().await;
        let began = tokio::time::Instant::now();
        cluster.delete(30);
        eventually("asked to end", || (!cluster.runtime.stopped().is_empty()).then_some(())).await;
        let took = began.elapsed().as_millis();
        assert!((least..most).contains(&took), "{selector}: {took} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_its_devices_does_not_run() {
    let cluster = Cluster::new();
    let mut spec = app();
    spec["resourceClaims"] = json!([{"name": "gpu", "resourceClaimName": "one"}]);
    cluster.create(spec);
    let told = eventually("the event", || cluster.api.told("FailedPrepareDynamicResources")).await;
    assert_eq!(
        told,
        "Failed to prepare dynamic resources: prepare dynamic resources: failed to fetch ResourceClaim one referenced by \
         pod p: resourceclaims.resource.k8s.io \"one\" not found"
    );
    assert_eq!(cluster.runtime.count(), (0, 0));
    assert_eq!(cluster.status()["phase"], "Pending");
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_kernel_parameter_fails_the_pod() {
    let cluster = Cluster::new();
    let mut spec = app();
    spec["securityContext"] = json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]});
    cluster.create(spec);
    let status = cluster.until("refused", |status| status["phase"] == "Failed").await;
    let told = "forbidden sysctl: \"kernel.msgmax\" not allowlisted";
    assert_eq!(status["reason"], "SysctlForbidden");
    assert_eq!(status["message"], format!("Pod was rejected: {told}"));
    assert_eq!(cluster.api.told("SysctlForbidden").as_deref(), Some(told));
}

#[tokio::test(start_paused = true)]
async fn a_missing_pull_secret_is_told() {
    let cluster = Cluster::new();
    cluster.runtime.make_pullable("far.example/app:1");
    cluster.create(json!({
        "imagePullSecrets": [{"name": "key"}],
        "containers": [{"name": "a", "image": "far.example/app:1"}],
    }));
    cluster.until_ready().await;
    assert_eq!(
        cluster.api.told("FailedToRetrieveImagePullSecret").as_deref(),
        Some("Unable to retrieve some image pull secrets (key); attempting to pull the image may not succeed.")
    );
}

const FAR: &str = "far.example/app:1";

/// A Secret for the registry, as a pod's `imagePullSecrets` names it.
fn pull_secret(cluster: &Cluster, name: &str, password: &str) {
    use base64::Engine as _;
    let config = json!({"auths": {"*.example/app": {"username": "u", "password": password}}});
    let encoded = base64::engine::general_purpose::STANDARD.encode(config.to_string());
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "d", "uid": name},
        "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": encoded},
    });
    cluster.api.put(&format!("/api/v1/namespaces/d/secrets/{name}"), secret);
}

fn far_app(secret: Option<&str>, policy: &str) -> serde_json::Value {
    let secrets: Vec<_> = secret.iter().map(|name| json!({"name": name})).collect();
    json!({
        "imagePullSecrets": secrets,
        "containers": [{"name": "a", "image": FAR, "imagePullPolicy": policy}],
    })
}

fn waiting(status: &serde_json::Value) -> &serde_json::Value {
    &status["containerStatuses"][0]["state"]["waiting"]
}

/// An image on the node that somebody else's Secret brought is as if it were not there.
#[tokio::test(start_paused = true)]
async fn an_image_is_theirs_who_have_credentials_for_it() {
    for (secret, policy, reason, message) in [
        (Some("good"), "IfNotPresent", None, ""),
        (Some("good"), "Never", None, ""),
        (
            None,
            "IfNotPresent",
            Some("ErrImagePull"),
            "failed to pull and unpack image \"far.example/app:1\": 401 Unauthorized",
        ),
        (
            Some("bad"),
            "IfNotPresent",
            Some("ErrImagePull"),
            "failed to pull and unpack image \"far.example/app:1\": 401 Unauthorized",
        ),
        (
            None,
            "Never",
            Some("ErrImageNeverPull"),
            "Container image \"far.example/app:1\" is not present with pull policy of Never",
        ),
    ] {
        let cluster = Cluster::new();
        cluster.runtime.make_pullable_for(FAR, "right");
        pull_secret(&cluster, "first", "right");
        pull_secret(&cluster, "good", "right");
        pull_secret(&cluster, "bad", "wrong");
        let records = &cluster.ctx.records;
        records.intend(FAR).unwrap();
        let first = crate::images::keyring::Keyring::of_secrets([&serde_json::from_value(
            cluster.api.get("/api/v1/namespaces/d/secrets/first").unwrap(),
        )
        .unwrap()]);
        records.pulled(FAR, FAR, first.lookup(FAR)[0].source.as_ref(), cluster.ctx.now());
        let request = PullImageRequest {
            image: Some(ImageSpec { image: FAR.to_owned(), ..ImageSpec::default() }),
            auth: Some(first.lookup(FAR)[0].auth.clone()),
            sandbox_config: None,
        };
        cluster.ctx.images.pull_image(request).await.unwrap();
        cluster.create(far_app(secret, policy));
        let Some(reason) = reason else {
            cluster.until_ready().await;
            let told = format!("Container image {FAR:?} already present on machine and can be accessed by the pod");
            assert_eq!(cluster.api.told("Pulled"), Some(told));
            continue;
        };
        let status = cluster.until(reason, |status| waiting(status)["reason"] == reason).await;
        assert_eq!(waiting(&status)["message"], message, "{secret:?} {policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn user_namespaces_and_stop_signals_reach_the_runtime() {
    use knarr_cri::v1::{IdMapping, NamespaceMode, Signal};
    let cluster = Cluster::new();
    cluster.create(json!({
        "hostUsers": false, "os": {"name": "linux"}, "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{"volumeMounts": [{"name": "v", "mountPath": "/v"}], "name": "a", "image": "app:1", "lifecycle": {"stopSignal": "SIGRTMIN+3"}}],
    }));
    cluster.until_ready().await;
    let made = cluster.runtime.running().remove("a").unwrap();
    assert_eq!(made.stop_signal(), Signal::Sigrtminplus3);
    assert_eq!(cluster.status()["containerStatuses"][0]["stopSignal"], "SIGRTMIN+3");
    let security = made.linux.unwrap().security_context.unwrap();
    let users = security.namespace_options.unwrap().userns_options.unwrap();
    assert_eq!(users.mode(), NamespaceMode::Pod);
    assert_eq!(users.uids, [IdMapping { host_id: 65_536, container_id: 0, length: 65_536 }]);
    assert_eq!(users.gids, users.uids);
    let paths: Vec<&str> = made.mounts.iter().map(|mount| mount.container_path.as_str()).collect();
    assert_eq!(paths, ["/v", "/etc/hosts", "/dev/termination-log"]);
    assert!(made.mounts.iter().all(|mount| mount.uid_mappings == users.uids && mount.gid_mappings == users.gids));
}

#[tokio::test(start_paused = true)]
async fn what_others_say_of_a_pod_that_is_well_is_put_right() {
    let cluster = Cluster::new();
    cluster.create(app());
    cluster.until_ready().await;
    // The node was out of reach for a moment, and its pods counted as not ready meanwhile.
    cluster.api.change(POD, |pod| {
        let conditions = pod["status"]["conditions"].as_array_mut().unwrap();
        let ready = conditions.iter_mut().find(|condition| condition["type"] == "Ready").unwrap();
        ready["status"] = json!("False");
        conditions.push(json!({"type": "example.com/other", "status": "True"}));
    });
    assert_eq!(condition(&cluster.status(), "Ready"), "False");
    cluster.until_ready().await;
    assert_eq!(condition(&cluster.status(), "example.com/other"), "True", "what is not the node's stays");
}

#[tokio::test(start_paused = true)]
async fn a_runtime_class_is_known_to_the_runtime_by_its_handler() {
    let cluster = Cluster::new();
    let mut spec = app();
    spec["runtimeClassName"] = json!("fast");
    cluster.create(spec);
    let told = eventually("the event", || cluster.api.told("FailedCreatePodSandBox")).await;
    assert_eq!(told, "Failed to create pod sandbox: runtimeclass.node.k8s.io \"fast\" not found");
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "fast"}, "handler": "turbo"});
    cluster.api.put("/apis/node.k8s.io/v1/runtimeclasses/fast", class);
    cluster.until_ready().await;
    assert_eq!(cluster.runtime.handlers(), ["turbo"]);
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_knows_no_user_namespaces_is_not_asked_for_them() {
    let cluster = Cluster::new();
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "fast"}, "handler": "turbo"});
    cluster.api.put("/apis/node.k8s.io/v1/runtimeclasses/fast", class);
    let mut spec = app();
    spec["runtimeClassName"] = json!("fast");
    spec["hostUsers"] = json!(false);
    cluster.create(spec);
    let told = eventually("the event", || cluster.api.told("FailedCreatePodSandBox")).await;
    let why = "RuntimeClass handler \"turbo\" does not support user namespaces";
    assert_eq!(told, format!("Failed to create pod sandbox: {why}"));
    assert!(cluster.runtime.handlers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn name_servers_beyond_the_limit_are_told() {
    let cluster = Cluster::new();
    let mut spec = app();
    spec["dnsPolicy"] = json!("None");
    spec["dnsConfig"] = json!({"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]});
    cluster.create(spec);
    cluster.until_ready().await;
    let told = eventually("the event", || cluster.api.told("DNSConfigForming")).await;
    assert!(told.ends_with("the applied nameserver line is: 1.1.1.1 1.1.1.2 1.1.1.3"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_has_no_more_processes_than_the_node_lets_it() {
    let cluster = Cluster::new();
    cluster.create(app());
    cluster.until_ready().await;
    let made = cluster.runtime.sandbox_resources();
    assert_eq!(made[0].unified.get("pids.max").map(String::as_str), Some("1000"));
}
