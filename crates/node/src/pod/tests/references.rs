//! What pods refer to: configuration and claims that are missing, come and change.

use serde_json::json;

use super::lives::{Cluster, waiting};
use crate::testing::eventually;

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_is_waited_for() {
    let cluster = Cluster::new();
    cluster.create(json!({"containers": [{"name": "a", "image": "app:1", "env": [
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
        {"name": "B", "value": "$(A)-$(C)"},
    ]}]}));
    let status = cluster.until("the reason", |status| waiting(status) == "CreateContainerConfigError").await;
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["message"], "configmap \"m\" not found");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "d", "uid": "m1"}, "data": {"k": "v"}});
    cluster.api.put("/api/v1/namespaces/d/configmaps/m", map);
    cluster.until_ready().await;
    let made = cluster.runtime.running().remove("a").unwrap();
    let env: Vec<_> = made.envs.iter().map(|pair| format!("{}={}", pair.key, pair.value)).collect();
    assert_eq!(env, ["A=v", "B=v-$(C)"]);
}

/// Waiting for what a restart refers to is no crash: it does not make the wait after one longer.
#[tokio::test(start_paused = true)]
async fn a_restart_waits_no_longer_than_what_it_refers_to() {
    let cluster = Cluster::new();
    let path = "/api/v1/namespaces/d/configmaps/m";
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "d", "uid": "m1"}, "data": {"k": "v"}});
    cluster.api.put(path, map.clone());
    let env = json!([{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]);
    cluster.create(json!({"containers": [{"name": "a", "image": "app:1", "env": env}]}));
    cluster.until_ready().await;
    cluster.api.remove(path);
    cluster.runtime.exit("a", 1);
    cluster.until("the reason", |status| waiting(status) == "CreateContainerConfigError").await;
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    cluster.api.put(path, map);
    let before = tokio::time::Instant::now();
    cluster.until_ready().await;
    assert!(before.elapsed() < std::time::Duration::from_secs(5), "{:?}", before.elapsed());
}

/// An agent that comes back while the API does not answer leaves what a pod has as it is.
#[tokio::test(start_paused = true)]
async fn what_the_api_says_nothing_about_does_not_count_as_missing() {
    let reference = json!({"name": "m", "optional": true});
    for (variables, volumes, reason) in [
        (json!([{"configMapRef": reference}]), json!([]), "CreateContainerConfigError"),
        (json!([]), json!([{"name": "v", "configMap": reference}]), "ContainerCreating"),
    ] {
        let cluster = Cluster::new();
        let collection = "/api/v1/namespaces/d/configmaps";
        cluster.api.refuse(Some(collection));
        let container = json!({"name": "a", "image": "app:1", "envFrom": variables});
        cluster.create(json!({"containers": [container], "volumes": volumes}));
        let why = "failed to sync configmap cache: timed out waiting for the condition";
        let is_said = |status: &serde_json::Value| match reason {
            "ContainerCreating" => cluster.api.told("FailedMount").is_some_and(|text| text.ends_with(why)),
            _ => status["containerStatuses"][0]["state"]["waiting"]["message"] == why,
        };
        let status = cluster.until("the reason", |status| waiting(status) == reason && is_said(status)).await;
        assert_eq!(status["phase"], "Pending");
        assert!(cluster.runtime.running().is_empty());
        // There is none after all.
        cluster.api.refuse(None);
        cluster.until_ready().await;
    }
}

#[tokio::test(start_paused = true)]
async fn variables_come_from_a_file_that_an_init_container_wrote() {
    let variable = |name: &str, volume: &str, optional: bool| {
        let source = json!({"volumeName": volume, "path": "vars/env", "key": name, "optional": optional});
        json!({"name": name, "valueFrom": {"fileKeyRef": source}})
    };
    for (variables, expected) in [
        (
            json!([variable("A", "v", false), variable("NONE", "v", true), {"name": "B", "value": "$(A)!"}]),
            Ok(["A=one\ntwo", "B=one\ntwo!"]),
        ),
        (json!([variable("NONE", "v", false)]), Err("environment variable key \"NONE\" not found in file \"FILE\"")),
        (json!([variable("LAST", "v", false)]), Err("couldn't parse env file")),
        (json!([variable("A", "other", true)]), Err("cannot find the volume \"other\" referenced by FileKeyRef")),
    ] {
        let cluster = Cluster::new();
        cluster.create(json!({
            "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [{"name": "i", "image": "tool:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "containers": [{"name": "a", "image": "app:1", "env": variables}],
        }));
        let writer = eventually("init", || cluster.runtime.running().remove("i")).await;
        let folder = std::path::Path::new(&writer.mounts[0].host_path).join("vars");
        std::fs::create_dir(&folder).unwrap();
        let end = if variables[0]["name"] == "LAST" { "nonsense\nLAST='x'\n" } else { "" };
        std::fs::write(folder.join("env"), format!("# Variables\nA='one\ntwo' # of it\n{end}")).unwrap();
        cluster.runtime.exit("i", 0);
        match expected {
            Ok(expected) => {
                cluster.until_ready().await;
                let made = cluster.runtime.running().remove("a").unwrap();
                let env: Vec<_> = made.envs.iter().map(|pair| format!("{}={}", pair.key, pair.value)).collect();
                assert_eq!(env, expected);
            }
            Err(expected) => {
                let status =
                    cluster.until("the reason", |status| waiting(status) == "CreateContainerConfigError").await;
                let file = folder.join("env").display().to_string();
                let message = &status["containerStatuses"][0]["state"]["waiting"]["message"];
                assert_eq!(message, &expected.replace("FILE", &file));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn config_map_volumes_follow_their_object() {
    let cluster = Cluster::new();
    let map = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "d", "uid": "m1"}, "data": {"k": value}});
    cluster.api.put("/api/v1/namespaces/d/configmaps/m", map("old"));
    cluster.create(json!({
        "volumes": [{"name": "v", "configMap": {"name": "m"}}],
        "containers": [{"name": "a", "image": "app:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
    }));
    cluster.until_ready().await;
    let made = cluster.runtime.running().remove("a").unwrap();
    let file = std::path::Path::new(&made.mounts[0].host_path).join("k");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
    cluster.api.put("/api/v1/namespaces/d/configmaps/m", map("new"));
    eventually("the new value", || (std::fs::read_to_string(&file).unwrap() == "new").then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn what_one_volume_lacks_later_is_nothing_to_the_others_nor_to_restarts() {
    let cluster = Cluster::new();
    let map = |name: &str, value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "d", "uid": name}, "data": {"k": value}});
    let path = |name: &str| format!("/api/v1/namespaces/d/configmaps/{name}");
    cluster.api.put(&path("m"), map("m", "old"));
    cluster.api.put(&path("n"), map("n", "old"));
    cluster.create(json!({
        "volumes": [{"name": "v", "configMap": {"name": "m"}}, {"name": "w", "configMap": {"name": "n"}}],
        "containers": [{"name": "a", "image": "app:1", "volumeMounts": [
            {"name": "v", "mountPath": "/v"}, {"name": "w", "mountPath": "/w"}]}],
    }));
    cluster.until_ready().await;
    let made = cluster.runtime.running().remove("a").unwrap();
    let read =
        |mount: usize| std::fs::read_to_string(std::path::Path::new(&made.mounts[mount].host_path).join("k")).unwrap();
    cluster.api.remove(&path("m"));
    let told = eventually("the event", || cluster.api.told("FailedMount")).await;
    assert_eq!(told, "MountVolume.SetUp failed for volume \"v\" : configmap \"m\" not found");
    assert_eq!(read(0), "old", "what was there stays");
    cluster.api.put(&path("n"), map("n", "new"));
    eventually("the other volume's refresh", || (read(1) == "new").then_some(())).await;
    cluster.runtime.exit("a", 1);
    cluster.until("a restart", |status| status["containerStatuses"][0]["restartCount"] == 1).await;
    cluster.until_ready().await;
    cluster.api.put(&path("m"), map("m", "again"));
    eventually("its own refresh", || (read(0) == "again").then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn volumes_that_are_not_supported_are_named() {
    let cluster = Cluster::new();
    cluster.create(json!({
        "volumes": [{"name": "v", "rbd": {"monitors": ["m"], "image": "i"}}],
        "containers": [{"name": "a", "image": "app:1"}],
    }));
    let told = eventually("the event", || cluster.api.told("FailedMount")).await;
    assert_eq!(told, "MountVolume.SetUp failed for volume \"v\" : rbd volumes are not supported by this node");
    let status = cluster.until("told", |status| waiting(status) == "ContainerCreating").await;
    assert_eq!(status["phase"], "Pending");
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_waited_for_and_leads_to_its_volume() {
    let cluster = Cluster::new();
    let place = tempfile::tempdir().unwrap();
    let claim = |phase: &str| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "c", "namespace": "d", "uid": "u1", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": "pv"}, "status": {"phase": phase},
        })
    };
    let path = "/api/v1/namespaces/d/persistentvolumeclaims/c";
    cluster.api.put(path, claim("Pending"));
    cluster.api.put(
        "/api/v1/persistentvolumes/pv",
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"},
            "spec": {"local": {"path": place.path()}, "claimRef": {"namespace": "d", "name": "c", "uid": "u1"}},
        }),
    );
    cluster.create(json!({
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}}],
        "containers": [{"name": "a", "image": "app:1", "volumeMounts": [
            {"name": "v", "mountPath": "/data"}, {"name": "v", "mountPath": "/sub", "subPath": "in"}]}],
    }));
    let told = eventually("the event", || cluster.api.told("FailedMount")).await;
    assert_eq!(
        told,
        "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process volumes=[v]: \
         error processing PVC d/c: PVC is not bound"
    );
    cluster.api.put(path, claim("Bound"));
    cluster.until_ready().await;
    let made = cluster.runtime.running().remove("a").unwrap();
    let real = std::fs::canonicalize(place.path()).unwrap();
    let inode = |path: &std::path::Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    for (mount, expected) in made.mounts.iter().zip([real.clone(), real.join("in")]) {
        assert_eq!((inode(mount.host_path.as_ref()), mount.readonly), (inode(&expected), true));
    }
    cluster.delete(0);
    cluster.until_gone().await;
    assert!(real.join("in").exists(), "what is in the volume outlives the pod");
}

#[tokio::test(start_paused = true)]
async fn what_is_immutable_is_read_once() {
    let cluster = Cluster::new();
    let map = |value: &str, immutable: bool| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "d", "uid": "m"}, "data": {"k": value}, "immutable": immutable});
    cluster.api.put("/api/v1/namespaces/d/configmaps/m", map("old", true));
    cluster.create(json!({
        "volumes": [{"name": "v", "configMap": {"name": "m"}}],
        "containers": [{"name": "a", "image": "app:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
    }));
    cluster.until_ready().await;
    let made = cluster.runtime.running().remove("a").unwrap();
    let file = std::path::Path::new(&made.mounts[0].host_path).join("k");
    // Only an object that is made anew can say otherwise, and pods are to be made anew with it.
    cluster.api.put("/api/v1/namespaces/d/configmaps/m", map("new", true));
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
}
