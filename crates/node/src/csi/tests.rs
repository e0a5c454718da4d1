use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Volume},
    storage::v1::CSIDriver,
};
use knarr_csi::messages as m;
use knarr_grpc::{
    code,
    server::{Reply, Status, serve},
};
use prost::Message;
use serde_json::{Value, from_value, json};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::{Csi, Wish, object, record};
use crate::{
    plugins::{Handler, Plugin},
    testing::{FakeApi, FakeRuntime, context, eventually},
};

const NODE: &str = "/api/v1/nodes/n1";
const HANDLE: &str = "vol-1";

/// A driver at a socket, whose volumes are file systems in memory.
#[derive(Clone, Default)]
struct Driver {
    calls: Arc<Mutex<Vec<String>>>,
    last: Arc<Mutex<Option<m::NodePublishVolumeRequest>>>,
    fails: Arc<Mutex<Option<&'static str>>>,
}

impl Driver {
    fn listen(&self, socket: &Path) {
        let listener = UnixListener::bind(socket).unwrap();
        let driver = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let driver = driver.clone();
                let answer = move |method: String, bytes: Bytes| {
                    let driver = driver.clone();
                    async move { driver.answer(&method, bytes) }
                };
                tokio::spawn(serve(stream, answer));
            }
        });
    }

    fn answer(&self, method: &str, bytes: Bytes) -> Result<Reply, Status> {
        let method = method.strip_prefix("csi.v1.Node/").unwrap();
        self.calls.lock().unwrap().push(method.to_owned());
        if *self.fails.lock().unwrap() == Some(method) {
            return Err(Status { code: code::INTERNAL, message: "no disk".to_owned() });
        }
        let unmount = |path: &str| {
            let path = Path::new(path);
            if super::is_mounted(path) {
                knarr_os::mount::unmount(path).unwrap();
            }
        };
        let reply = match method {
            "NodeGetInfo" => Reply::one(&m::NodeGetInfoResponse {
                node_id: "here".to_owned(),
                max_volumes_per_node: 7,
                accessible_topology: Some(m::Topology { segments: [("zone.d".to_owned(), "z1".to_owned())].into() }),
            }),
            "NodeGetCapabilities" => {
                let one = |kind: m::RpcType| m::NodeServiceCapability { rpc: Some(m::Rpc { r#type: kind as i32 }) };
                let all = [m::RpcType::StageUnstageVolume, m::RpcType::ExpandVolume, m::RpcType::GetVolumeStats];
                let capabilities = all.map(one).to_vec();
                Reply::one(&m::NodeGetCapabilitiesResponse { capabilities })
            }
            "NodeStageVolume" => {
                let request = m::NodeStageVolumeRequest::decode(bytes).unwrap();
                assert_eq!(request.publish_context["disk"], "sdz");
                assert_eq!(request.secrets["key"], "secret");
                let flags = knarr_os::mount::Flags::NONE;
                if !is_device(request.volume_capability.as_ref()) {
                    knarr_os::mount::filesystem("tmpfs", request.staging_target_path.as_ref(), flags, "").unwrap();
                }
                Reply::one(&m::Nothing {})
            }
            "NodePublishVolume" => {
                let request = m::NodePublishVolumeRequest::decode(bytes).unwrap();
                if is_device(request.volume_capability.as_ref()) {
                    fs::write(&request.target_path, "").unwrap();
                    rustix::mount::mount_bind("/dev/null", &request.target_path).unwrap();
                } else {
                    fs::create_dir(&request.target_path).unwrap();
                    rustix::mount::mount_bind(&request.staging_target_path, &request.target_path).unwrap();
                }
                *self.last.lock().unwrap() = Some(request);
                Reply::one(&m::Nothing {})
            }
            "NodeUnpublishVolume" => {
                unmount(&m::NodeUnpublishVolumeRequest::decode(bytes).unwrap().target_path);
                Reply::one(&m::Nothing {})
            }
            "NodeUnstageVolume" => {
                unmount(&m::NodeUnstageVolumeRequest::decode(bytes).unwrap().staging_target_path);
                Reply::one(&m::Nothing {})
            }
            "NodeExpandVolume" => {
                let request = m::NodeExpandVolumeRequest::decode(bytes).unwrap();
                let capacity_bytes = request.capacity_range.unwrap().required_bytes;
                assert_eq!(capacity_bytes, 2 << 30);
                Reply::one(&m::NodeExpandVolumeResponse { capacity_bytes })
            }
            "NodeGetVolumeStats" => {
                let request = m::NodeGetVolumeStatsRequest::decode(bytes).unwrap();
                assert_eq!(request.volume_id, HANDLE);
                assert!(Path::new(&request.volume_path).exists() && Path::new(&request.staging_target_path).exists());
                let bytes = m::VolumeUsage { available: 3, total: 5, used: 2, unit: m::UsageUnit::Bytes as i32 };
                let inodes = m::VolumeUsage { available: 8, total: 9, used: -1, unit: m::UsageUnit::Inodes as i32 };
                Reply::one(&m::NodeGetVolumeStatsResponse { usage: vec![bytes, inodes] })
            }
            other => panic!("{other} was called"),
        };
        Ok(reply)
    }

    fn said(&self) -> String {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap());
        let calls = calls.iter().filter_map(|call| call.strip_prefix("Node").filter(|call| *call != "GetCapabilities"));
        calls.collect::<Vec<_>>().join(" ")
    }
}

fn is_device(capability: Option<&m::VolumeCapability>) -> bool {
    matches!(capability.and_then(|can| can.access_type.as_ref()), Some(m::AccessType::Block(_)))
}

fn pod() -> Arc<Pod> {
    let meta = json!({"name": "p", "namespace": "d", "uid": "u"});
    Arc::new(from_value(json!({"metadata": meta, "spec": {"serviceAccountName": "sa", "containers": []}})).unwrap())
}

fn volume() -> PersistentVolume {
    let secret = json!({"name": "key", "namespace": "d"});
    let csi = json!({"driver": "d.io", "volumeHandle": HANDLE, "fsType": "ext4", "volumeAttributes": {"a": "b"},
        "nodeStageSecretRef": secret});
    let spec = json!({"csi": csi, "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}, "mountOptions": ["noatime"]});
    from_value(json!({"metadata": {"name": "pv"}, "spec": spec})).unwrap()
}

fn claim() -> PersistentVolumeClaim {
    from_value(json!({"metadata": {"name": "c", "namespace": "d"}})).unwrap()
}

fn wish() -> Wish {
    Wish::of_claim("v", &claim(), &volume(), false).unwrap()
}

fn plugin(dir: &Path) -> Plugin {
    Plugin { name: "d.io".to_owned(), endpoint: dir.join("d.sock"), versions: vec!["1.0.0".to_owned()] }
}

async fn node(dir: &Path, api: &FakeApi, stop: &CancellationToken) -> Arc<Csi> {
    let (ctx, _) = context(api, &Arc::new(FakeRuntime::new(&[])), dir, stop);
    assert!(ctx.node.synced().await && ctx.csi.known.synced().await);
    ctx.csi.clone()
}

#[tokio::test]
async fn a_volume_is_staged_and_published_and_taken_back() {
    assert!(rustix::process::geteuid().is_root(), "this test mounts; run it as root");
    let dir = tempfile::tempdir().unwrap();
    let (api, stop, driver) = (FakeApi::new(), CancellationToken::new(), Driver::default());
    driver.listen(&dir.path().join("d.sock"));
    api.put(NODE, json!({"metadata": {"name": "n1", "uid": "n"}, "status": {}}));
    let asks = json!({"podInfoOnMount": true, "tokenRequests": [{"audience": "vault"}]});
    api.put("/apis/storage.k8s.io/v1/csidrivers/d.io", json!({"metadata": {"name": "d.io"}, "spec": asks}));
    api.put("/api/v1/namespaces/d/secrets/key", json!({"metadata": {"name": "key"}, "data": {"key": "c2VjcmV0"}}));
    let csi = node(dir.path(), &api, &stop).await;

    // Without its driver, and then unattached.
    let pod_dir = csi.pod_dir("u");
    csi.register(&plugin(dir.path())).await.unwrap();
    let shown = api.get("/apis/storage.k8s.io/v1/csinodes/n1").unwrap();
    let expected = json!([{"name": "d.io", "nodeID": "here", "topologyKeys": ["zone.d"], "allocatable": {"count": 7}}]);
    assert_eq!(shown["spec"]["drivers"], expected);
    assert_eq!(shown["metadata"]["ownerReferences"][0]["uid"], "n");
    let known = api.get(NODE).unwrap();
    assert_eq!(known["metadata"]["labels"], json!({"zone.d": "z1"}));
    assert_eq!(known["metadata"]["annotations"]["csi.volume.kubernetes.io/nodeid"], r#"{"d.io":"here"}"#);

    let publishing = tokio::spawn({
        let csi = csi.clone();
        async move { csi.publish(&wish(), &pod()).await }
    });
    let unique = "kubernetes.io/csi/d.io^vol-1";
    eventually("the node says what it uses", || {
        (api.get(NODE)?["status"]["volumesInUse"] == json!([unique])).then_some(())
    })
    .await;
    let name = knarr_api::volume::attachment_name("d.io", HANDLE, "n1");
    let attached = json!({"attached": true, "attachmentMetadata": {"disk": "sdz"}});
    let spec = json!({"attacher": "d.io", "nodeName": "n1", "source": {"persistentVolumeName": "pv"}});
    let attachments = format!("/apis/storage.k8s.io/v1/volumeattachments/{name}");
    api.put(&attachments, json!({"metadata": {"name": name}, "spec": spec, "status": attached}));
    api.change(NODE, |node| node["status"]["volumesAttached"] = json!([{"name": unique, "devicePath": ""}]));
    let place = publishing.await.unwrap().unwrap();
    assert_eq!(driver.said(), "GetInfo StageVolume PublishVolume");
    assert!(place.owned && place.path.ends_with("kubelet/pods/u/volumes/kubernetes.io~csi/pv/mount"));
    fs::write(place.path.join("file"), "kept").unwrap();
    let told = driver.last.lock().unwrap().take().unwrap();
    assert_eq!(told.volume_context["csi.storage.k8s.io/pod.name"], "p");
    assert_eq!(told.volume_context["a"], "b");
    let tokens: Value = serde_json::from_str(&told.volume_context["csi.storage.k8s.io/serviceAccount.tokens"]).unwrap();
    assert_eq!(tokens["vault"]["token"], "token");

    let [record] = csi.brought("u").try_into().unwrap();
    assert!(record.path == place.path && csi.brought("other").is_empty());
    let usage = csi.usage(&record).await.unwrap();
    assert_eq!((usage.capacity, usage.available, usage.used), (Some(5), Some(3), Some(2)));
    assert_eq!((usage.inodes, usage.inodes_free, usage.inodes_used), (Some(9), Some(8), None));
    assert_eq!(driver.said(), "GetVolumeStats");

    // It grows while it is used.
    let path = "/api/v1/namespaces/d/persistentvolumeclaims/c";
    let pending = json!([{"type": "FileSystemResizePending", "status": "True"}]);
    let status = json!({"conditions": pending, "capacity": {"storage": "1Gi"}});
    api.put(path, json!({"metadata": {"name": "c", "namespace": "d"}, "status": status}));
    api.put("/api/v1/persistentvolumes/pv", serde_json::to_value(volume()).unwrap());
    csi.refresh(&wish(), &pod()).await.unwrap();
    assert_eq!(driver.said(), "ExpandVolume");
    let grown = api.get(path).unwrap();
    assert_eq!(
        (&grown["status"]["capacity"]["storage"], grown["status"].get("conditions")),
        (&json!("2Gi"), Some(&json!([])))
    );

    // The next agent finds it, and takes it back once the driver has registered again.
    let csi = node(dir.path(), &api, &stop).await;
    assert_eq!(csi.found(&wish(), "u").unwrap(), place);
    let refused = csi.release(&pod_dir).await.unwrap_err().to_string();
    let why = "driver name d.io not found in the list of registered CSI drivers";
    assert_eq!(refused, format!("UnmountVolume.TearDown failed for volume \"vol-1\" : {why}"));
    csi.register(&plugin(dir.path())).await.unwrap();
    *driver.fails.lock().unwrap() = Some("NodeUnstageVolume");
    csi.release(&pod_dir).await.unwrap();
    assert_eq!(driver.said(), "GetInfo UnpublishVolume UnstageVolume");
    assert!(!super::has_volumes(&pod_dir) && !place.path.exists());
    assert_eq!(api.get(NODE).unwrap()["status"]["volumesInUse"], json!([unique]), "it is staged still");
    *driver.fails.lock().unwrap() = None;
    csi.sweep(&|_| true).await.unwrap();
    assert_eq!(driver.said(), "UnstageVolume");
    assert_eq!(api.get(NODE).unwrap()["status"]["volumesInUse"], json!([]));
    assert!(record::in_folder(&dir.path().join("csi")).unwrap().is_empty());
    csi.deregister(&plugin(dir.path())).await;
    assert_eq!(api.get("/apis/storage.k8s.io/v1/csinodes/n1").unwrap()["spec"]["drivers"], json!([]));
    stop.cancel();
}

#[tokio::test]
async fn a_device_is_brought_as_one() {
    assert!(rustix::process::geteuid().is_root(), "this test mounts; run it as root");
    let dir = tempfile::tempdir().unwrap();
    let (api, stop, driver) = (FakeApi::new(), CancellationToken::new(), Driver::default());
    driver.listen(&dir.path().join("d.sock"));
    api.put(NODE, json!({"metadata": {"name": "n1"}, "status": {}}));
    api.put("/api/v1/namespaces/d/secrets/key", json!({"metadata": {"name": "key"}, "data": {"key": "c2VjcmV0"}}));
    let unique = "kubernetes.io/csi/d.io^vol-1";
    api.change(NODE, |node| node["status"]["volumesAttached"] = json!([{"name": unique, "devicePath": ""}]));
    let name = knarr_api::volume::attachment_name("d.io", HANDLE, "n1");
    let attached = json!({"attached": true, "attachmentMetadata": {"disk": "sdz"}});
    let attachment = format!("/apis/storage.k8s.io/v1/volumeattachments/{name}");
    api.put(&attachment, json!({"metadata": {"name": name}, "spec": {}, "status": attached}));
    let csi = node(dir.path(), &api, &stop).await;
    let mut volume = volume();
    volume.spec.get_or_insert_default().volume_mode = Some("Block".to_owned());
    let wish = Wish::of_claim("v", &claim(), &volume, false).unwrap();
    let why = csi.publish(&wish, &pod()).await.unwrap_err();
    assert!(why.is_of_a_device() && why.to_string().starts_with("MapVolume.SetUpDevice failed for volume \"pv\" :"));

    csi.register(&plugin(dir.path())).await.unwrap();
    let place = csi.publish(&wish, &pod()).await.unwrap();
    assert_eq!(driver.said(), "GetInfo StageVolume PublishVolume");
    assert_eq!((&*place.kind, place.owned), ("BlockDevice", false));
    let devices = dir.path().join("kubelet/plugins/kubernetes.io/csi/volumeDevices");
    assert_eq!(place.path, devices.join("publish/pv/u"));
    assert!(devices.join("staging/pv").is_dir());
    assert_eq!(csi.found(&wish, "u").unwrap(), place);
    csi.release(&csi.pod_dir("u")).await.unwrap();
    assert_eq!(driver.said(), "UnpublishVolume UnstageVolume");
    assert!(!devices.join("publish").exists() && !devices.join("staging").exists(), "nothing is left of it");
    stop.cancel();
}

#[tokio::test]
async fn what_a_driver_refuses_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (api, stop, driver) = (FakeApi::new(), CancellationToken::new(), Driver::default());
    driver.listen(&dir.path().join("d.sock"));
    api.put(NODE, json!({"metadata": {"name": "n1"}, "status": {}}));
    api.put(
        "/apis/storage.k8s.io/v1/csidrivers/d.io",
        json!({"metadata": {"name": "d.io"}, "spec": {"attachRequired": false}}),
    );
    let csi = node(dir.path(), &api, &stop).await;
    let said = async |wish: &Wish| csi.publish(wish, &pod()).await.unwrap_err().to_string();
    let none = "driver name d.io not found in the list of registered CSI drivers";
    let stage = "MountVolume.MountDevice failed for volume \"pv\" :";
    assert_eq!(
        said(&wish()).await,
        format!("{stage} kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: {none}")
    );
    let inline: Volume = from_value(json!({"name": "v", "csi": {"driver": "d.io"}})).unwrap();
    assert_eq!(
        said(&Wish::inline(&pod(), &inline).unwrap()).await,
        "MountVolume.SetUp failed for volume \"v\" : volume mode \"Ephemeral\" not supported by driver d.io (only \
         supports [\"Persistent\"])"
    );
    csi.register(&plugin(dir.path())).await.unwrap();
    let missing = "failed to find the secret key in the namespace d with error: secrets \"key\" not found";
    assert_eq!(
        said(&wish()).await,
        format!("{stage} fetching NodeStageSecretRef d/key failed: kubernetes.io/csi: {missing}")
    );
    *driver.fails.lock().unwrap() = Some("NodeStageVolume");
    let open = Wish { stage_secret: None, ..wish() };
    assert_eq!(said(&open).await, format!("{stage} rpc error: code = Internal desc = no disk"));
    // Nothing was published: nothing has to be unpublished, but what may be staged is.
    driver.said();
    csi.release(&csi.pod_dir("u")).await.unwrap();
    assert_eq!(driver.said(), "UnstageVolume");
    stop.cancel();
}

#[test]
fn drivers_are_asked_for_what_the_volume_allows() {
    let plain = m::Capabilities::default();
    let (counts, grouped) =
        (m::Capabilities { counts_writers: true, ..plain }, m::Capabilities { mounts_for_group: true, ..plain });
    for (mode, can, expected) in [
        ("ReadWriteOnce", plain, m::Mode::SingleNodeWriter),
        ("ReadWriteOnce", counts, m::Mode::SingleNodeMultiWriter),
        ("ReadWriteOncePod", plain, m::Mode::SingleNodeWriter),
        ("ReadWriteOncePod", counts, m::Mode::SingleNodeSingleWriter),
        ("ReadOnlyMany", counts, m::Mode::MultiNodeReaderOnly),
        ("ReadWriteMany", plain, m::Mode::MultiNodeMultiWriter),
    ] {
        let wish = Wish { access_modes: vec![mode.to_owned()], ..wish() };
        assert_eq!(wish.capability(can, None).access_mode.unwrap().mode, expected as i32, "{mode}");
    }
    let mounted = |can| match wish().capability(can, Some(5)).access_type {
        Some(m::AccessType::Mount(mount)) => mount,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (mounted(plain).mount_flags, mounted(plain).volume_mount_group),
        (vec!["noatime".to_owned()], String::new())
    );
    assert_eq!(mounted(grouped).volume_mount_group, "5");
    for (policy, change, can, expected) in [
        ("ReadWriteOnceWithFSType", json!({}), plain, true),
        ("ReadWriteOnceWithFSType", json!({"fsType": ""}), plain, false),
        ("ReadWriteOnceWithFSType", json!({"mode": "ReadWriteMany"}), plain, false),
        ("File", json!({"mode": "ReadWriteMany"}), plain, true),
        ("File", json!({"readOnly": true}), plain, false),
        ("File", json!({}), grouped, false),
        ("None", json!({}), plain, false),
    ] {
        let driver: CSIDriver = from_value(json!({"metadata": {}, "spec": {"fsGroupPolicy": policy}})).unwrap();
        let mut wish = wish();
        wish.fs_type = change["fsType"].as_str().unwrap_or("ext4").to_owned();
        wish.access_modes = vec![change["mode"].as_str().unwrap_or("ReadWriteOnce").to_owned()];
        wish.read_only = change["readOnly"] == true;
        assert_eq!(wish.is_given(Some(&driver), can), expected, "{policy} {change}");
    }
}

#[test]
fn a_node_carries_what_drivers_say() {
    let node = |labels: Value, ids: &str| -> Node {
        let annotations = json!({"csi.volume.kubernetes.io/nodeid": ids});
        from_value(json!({"metadata": {"labels": labels, "annotations": annotations}})).unwrap()
    };
    let topology = BTreeMap::from([("zone".to_owned(), "b".to_owned())]);
    let ids = |patch: Value| patch["metadata"]["annotations"]["csi.volume.kubernetes.io/nodeid"].clone();
    let with = |node: &Node, id| object::node_with(node, "d", id, &topology);
    assert_eq!(ids(with(&node(json!({}), r#"{"e":"1"}"#), Some("2")).unwrap()), r#"{"d":"2","e":"1"}"#);
    assert_eq!(ids(with(&node(json!({}), r#"{"d":"1"}"#), None).unwrap()), Value::Null);
    assert_eq!(
        with(&node(json!({"zone": "a"}), "{}"), Some("2")).unwrap_err(),
        "detected topology value collision: driver reported \"zone\":\"b\" but existing label is \"zone\":\"a\""
    );
}
