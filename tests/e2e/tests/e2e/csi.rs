//! A CSI driver from its registration to the end of its volume. The driver is this test, and so are the sidecars that
//! every driver's controller has: what external-provisioner and external-attacher do is done here through the API.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use knarr_csi::messages as m;
use knarr_e2e::{Cluster, eventually, image::BUSYBOX};
use knarr_grpc::{
    code,
    server::{Reply, Status, serve},
};
use prost::Message;
use serde_json::json;
use tokio::net::UnixListener;

use crate::{
    Alone,
    block::{self, Loop},
};

const DRIVER: &str = "test.csi.knarr.dev";
const FINALIZER: &str = "external-attacher/test-csi-knarr-dev";

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![("a_csi_volume_lives_and_ends", a_csi_volume_lives_and_ends)]
}

#[derive(Clone, PartialEq, Message)]
struct PluginInfo {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    endpoint: String,
    #[prost(string, repeated, tag = "4")]
    versions: Vec<String>,
}

/// The node's part of a driver whose volumes are directories.
#[derive(Clone)]
struct Driver {
    /// Has a directory for each volume.
    dir: PathBuf,
    socket: PathBuf,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Driver {
    /// Serves in a thread of its own until the test's process ends.
    fn start(dir: &Path, kubelet_dir: &Path) -> Result<Self> {
        let own = kubelet_dir.join("plugins").join(DRIVER);
        fs::create_dir_all(&own)?;
        fs::create_dir_all(kubelet_dir.join("plugins_registry"))?;
        let driver = Self { dir: dir.to_owned(), socket: own.join("csi.sock"), calls: Arc::default() };
        let registration = kubelet_dir.join(format!("plugins_registry/{DRIVER}-reg.sock"));
        let served = driver.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listeners = {
            let _in_runtime = runtime.enter();
            [UnixListener::bind(&driver.socket)?, UnixListener::bind(registration)?]
        };
        thread::spawn(move || {
            runtime.block_on(async {
                let [own, registration] = listeners;
                tokio::join!(served.listen(own), served.listen(registration));
            });
        });
        Ok(driver)
    }

    async fn listen(&self, listener: UnixListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let driver = self.clone();
            tokio::spawn(serve(stream, move |method, bytes| {
                let driver = driver.clone();
                async move {
                    let failed = |error: anyhow::Error| Status { code: code::INTERNAL, message: format!("{error:#}") };
                    driver.answer(&method, bytes).map_err(failed)
                }
            }));
        }
    }

    fn answer(&self, method: &str, bytes: Bytes) -> Result<Reply> {
        let (_, name) = method.split_once('/').context("a method of a service")?;
        if !name.starts_with("NodeGet") && name.starts_with("Node") {
            self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
        }
        let done = Reply::one(&m::Nothing {});
        Ok(match name {
            "GetInfo" => Reply::one(&PluginInfo {
                kind: "CSIPlugin".into(),
                name: DRIVER.into(),
                endpoint: self.socket.display().to_string(),
                versions: vec!["1.0.0".into()],
            }),
            "NotifyRegistrationStatus" => done,
            "NodeGetInfo" => {
                let segments = [("topology.test.csi.knarr.dev/node".to_owned(), "one".to_owned())].into();
                let accessible_topology = Some(m::Topology { segments });
                Reply::one(&m::NodeGetInfoResponse {
                    node_id: "node-one".into(),
                    max_volumes_per_node: 3,
                    accessible_topology,
                })
            }
            "NodeGetCapabilities" => {
                let rpc = Some(m::Rpc { r#type: m::RpcType::StageUnstageVolume as i32 });
                Reply::one(&m::NodeGetCapabilitiesResponse { capabilities: vec![m::NodeServiceCapability { rpc }] })
            }
            "NodeStageVolume" => {
                let request = m::NodeStageVolumeRequest::decode(bytes)?;
                ensure!(request.publish_context.get("disk").is_some_and(|disk| disk == "sdz"), "it is not attached");
                if !is_device(request.volume_capability.as_ref()) {
                    bind(&self.dir.join(&request.volume_id), Path::new(&request.staging_target_path))?;
                }
                done
            }
            "NodePublishVolume" => {
                let request = m::NodePublishVolumeRequest::decode(bytes)?;
                let said = |key: &str| request.volume_context.get(key).cloned().unwrap_or_default();
                let about = |key: &str| said(&format!("csi.storage.k8s.io/{key}"));
                if is_device(request.volume_capability.as_ref()) {
                    fs::write(&request.target_path, "")?;
                    bind(&self.dir.join(&request.volume_id).canonicalize()?, Path::new(&request.target_path))?;
                    return Ok(done);
                }
                let source = match request.staging_target_path.as_str() {
                    "" => {
                        let secret = request.secrets.get("word").cloned().unwrap_or_default();
                        let told = [about("pod.name"), about("ephemeral"), said("colour"), secret].join(" ") + "\n";
                        let own = self.dir.join("inline");
                        fs::create_dir_all(&own)?;
                        fs::write(own.join("told"), told)?;
                        own
                    }
                    staged => {
                        ensure!(about("pod.name") == "p" && about("ephemeral") == "false", "{request:?}");
                        PathBuf::from(staged)
                    }
                };
                fs::create_dir_all(&request.target_path)?;
                bind(&source, Path::new(&request.target_path))?;
                done
            }
            "NodeUnpublishVolume" => {
                let target = m::NodeUnpublishVolumeRequest::decode(bytes)?.target_path;
                unmount(&target)?;
                match Path::new(&target) {
                    path if path.is_dir() => fs::remove_dir(path)?,
                    path if path.exists() => fs::remove_file(path)?,
                    _ => {}
                }
                done
            }
            "NodeUnstageVolume" => {
                unmount(&m::NodeUnstageVolumeRequest::decode(bytes)?.staging_target_path)?;
                done
            }
            other => bail!("{other} was called"),
        })
    }

    fn called(&self) -> Vec<String> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn is_device(capability: Option<&m::VolumeCapability>) -> bool {
    matches!(capability.and_then(|can| can.access_type.as_ref()), Some(m::AccessType::Block(_)))
}

fn mounts(below: &Path) -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let targets = table.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(targets.filter(|target| Path::new(target).starts_with(below)).map(str::to_owned).collect())
}

/// Doing it twice does no harm, as the protocol wants it.
fn bind(source: &Path, target: &Path) -> Result<()> {
    if mounts(target)?.is_empty() {
        ensure!(Command::new("mount").arg("--bind").args([source, target]).status()?.success(), "mount failed");
    }
    Ok(())
}

fn unmount(target: &str) -> Result<()> {
    if !mounts(Path::new(target))?.is_empty() {
        ensure!(Command::new("umount").arg(target).status()?.success(), "umount failed");
    }
    Ok(())
}

fn yaml() -> String {
    format!(
        "apiVersion: storage.k8s.io/v1\nkind: CSIDriver\nmetadata: {{name: {DRIVER}}}\nspec: {{podInfoOnMount: true, fsGroupPolicy: File, volumeLifecycleModes: [Persistent, Ephemeral]}}\n---\n\
         apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: driven}}\nprovisioner: {DRIVER}\nvolumeBindingMode: WaitForFirstConsumer\n---\n\
         apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: data}}\nspec: {{storageClassName: driven, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  terminationGracePeriodSeconds: 0\n  securityContext: {{fsGroup: 2000}}\n  \
         volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]\n  containers:\n  - name: c\n    image: {BUSYBOX}\n    \
         command: [sh, -c, 'cat /data/greeting && echo written > /data/file && exec sleep 1000']\n    volumeMounts: [{{name: data, mountPath: /data}}]\n"
    )
}

/// What a pod finds, it says as soon as it runs.
fn said_in(cluster: &Cluster, ns: &str, pod: &str, expected: &str) -> Result<()> {
    eventually(&format!("{pod} says {expected:?}"), || {
        let said = cluster.kubectl(&format!("logs {pod} -n {ns}"))?;
        if said == expected { Ok(()) } else { bail!("{said}") }
    })
}

/// A volume that no claim is for, and no controller: it comes and goes with its pod.
fn an_inline_volume(cluster: &Cluster, ns: &str, driver: &Driver) -> Result<()> {
    let before = driver.called().len();
    cluster.kubectl(&format!("create secret generic login -n {ns} --from-literal=word=open"))?;
    let source = json!({"driver": DRIVER, "fsType": "ext4", "readOnly": false, "volumeAttributes": {"colour": "blue"},
        "nodePublishSecretRef": {"name": "login"}});
    let container = json!({"name": "c", "image": BUSYBOX, "command": ["sh", "-c", "cat /v/told && exec sleep 1000"],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let spec = json!({"terminationGracePeriodSeconds": 0, "volumes": [{"name": "v", "csi": source}], "containers": [container]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "inline"}, "spec": spec});
    cluster.apply(ns, &pod.to_string())?;
    cluster.kubectl(&format!("wait pod/inline -n {ns} --for=condition=Ready --timeout=60s"))?;
    said_in(cluster, ns, "inline", "inline true blue open\n")?;
    let uid = cluster.kubectl(&format!("get pod inline -n {ns} -o jsonpath={{.metadata.uid}}"))?;
    cluster.kubectl(&format!("delete pod inline -n {ns} --timeout=60s"))?;
    // Without any grace the object is gone before its node has heard of that.
    eventually("the volume is taken back", || {
        let calls = driver.called().split_off(before);
        let is_gone = !cluster.data_dir().join("pods").join(&uid).exists();
        let is_asked = calls == ["NodePublishVolume", "NodeUnpublishVolume"];
        if is_gone && is_asked { Ok(()) } else { bail!("{calls:?}") }
    })
}

/// A volume that its driver brings as a device.
fn a_device(cluster: &Cluster, ns: &str, driver: &Driver, kubelet_dir: &Path) -> Result<()> {
    let before = driver.called().len();
    let disk = Loop::over(&cluster.scratch().join("disk"))?;
    std::os::unix::fs::symlink(disk.path(), driver.dir.join("vol-2"))?;
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "driven-2"}, "spec": {
        "volumeMode": "Block", "capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain", "csi": {"driver": DRIVER, "volumeHandle": "vol-2"}}});
    cluster.apply(ns, &volume.to_string())?;
    cluster.apply(ns, &block::claim("device", "driven-2").to_string())?;
    let write = "echo kept | dd of=/dev/data conv=fsync 2>/dev/null && head -n 1 /dev/data && exec sleep 1000";
    cluster.apply(ns, &block::user("device", "device", false, write).to_string())?;
    let attachment = attach(cluster)?;
    cluster.kubectl(&format!("wait pod/device -n {ns} --for=condition=Ready --timeout=60s"))?;
    said_in(cluster, ns, "device", "kept\n")?;
    let mut written = [0; 4];
    std::io::Read::read_exact(&mut fs::File::open(disk.path())?, &mut written)?;
    ensure!(written == *b"kept", "{written:?}");
    cluster.kubectl(&format!("delete pod device -n {ns} --timeout=60s"))?;
    eventually("the device is taken back", || {
        let calls = driver.called().split_off(before);
        let all = ["NodeStageVolume", "NodePublishVolume", "NodeUnpublishVolume", "NodeUnstageVolume"];
        let left = mounts(kubelet_dir)?;
        if calls == all && left.is_empty() { Ok(()) } else { bail!("{calls:?}, {left:?}") }
    })?;
    let patch = r#"{"metadata": {"finalizers": null}}"#;
    cluster.kubectl_args(&["patch", "volumeattachment", &attachment, "--type=merge", "-p", patch])?;
    cluster.kubectl(&format!("delete pvc device -n {ns}"))?;
    cluster.kubectl("delete pv driven-2").map(drop)
}

/// As external-provisioner does once the claim says for which node.
fn provision(cluster: &Cluster, ns: &str) -> Result<()> {
    let claim = eventually("the provisioner is asked", || {
        let claim = cluster.get(&format!("pvc/data -n {ns}"))?;
        let annotations = &claim["metadata"]["annotations"];
        let asked = annotations["volume.kubernetes.io/storage-provisioner"] == DRIVER
            && annotations["volume.kubernetes.io/selected-node"] == "node-1";
        if asked { Ok(claim) } else { bail!("{annotations}") }
    })?;
    let reference = json!({"namespace": ns, "name": "data", "uid": claim["metadata"]["uid"]});
    let on = json!({"key": "topology.test.csi.knarr.dev/node", "operator": "In", "values": ["one"]});
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": "driven-1", "annotations": {"pv.kubernetes.io/provisioned-by": DRIVER}},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "driven",
            "persistentVolumeReclaimPolicy": "Delete", "claimRef": reference,
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on]}]}},
            "csi": {"driver": DRIVER, "volumeHandle": "vol-1", "fsType": "ext4"}}});
    cluster.apply(ns, &volume.to_string()).map(drop)
}

/// As external-attacher does: the attachment stays until its volume is detached.
fn attach(cluster: &Cluster) -> Result<String> {
    let name = eventually("an attachment is asked for", || {
        let list = cluster.get("volumeattachments")?;
        let name = list["items"][0]["metadata"]["name"].as_str().map(str::to_owned);
        name.context("there is no VolumeAttachment")
    })?;
    let patch = json!({"metadata": {"finalizers": [FINALIZER]}}).to_string();
    cluster.kubectl_args(&["patch", "volumeattachment", &name, "--type=merge", "-p", &patch])?;
    let patch = json!({"status": {"attached": true, "attachmentMetadata": {"disk": "sdz"}}}).to_string();
    cluster.kubectl_args(&[
        "patch",
        "volumeattachment",
        &name,
        "--subresource=status",
        "--type=merge",
        "-p",
        &patch,
    ])?;
    Ok(name)
}

fn a_csi_volume_lives_and_ends() -> Result<()> {
    let mut cluster = Cluster::new()?;
    let kubelet_dir = fs::canonicalize(cluster.scratch())?.join("kubelet");
    let volumes = cluster.scratch().join("driver");
    fs::create_dir_all(volumes.join("vol-1"))?;
    fs::write(volumes.join("vol-1/greeting"), "hello\n")?;
    let driver = Driver::start(&volumes, &kubelet_dir)?;
    let dir = kubelet_dir.display().to_string();
    let start = ["--kubelet-dir", dir.as_str()];
    cluster.start_with(&start)?;
    let ns = cluster.namespace("csi")?;
    eventually("the driver is registered", || {
        let drivers = cluster.get("csinode/node-1")?["spec"]["drivers"].clone();
        let all = json!([{"name": DRIVER, "nodeID": "node-one", "topologyKeys": ["topology.test.csi.knarr.dev/node"],
            "allocatable": {"count": 3}}]);
        if drivers == all { Ok(()) } else { bail!("{drivers}") }
    })?;
    let ready = |cluster: &Cluster| {
        cluster.kubectl(&format!("wait pod/p -n {ns} --for=condition=Ready --timeout=60s")).map(drop)
    };

    cluster.apply(&ns, &yaml())?;
    provision(&cluster, &ns)?;
    let attachment = attach(&cluster)?;
    ready(&cluster)?;
    said_in(&cluster, &ns, "p", "hello\n")?;
    eventually("the pod writes", || {
        ensure!(fs::read_to_string(volumes.join("vol-1/file"))? == "written\n");
        Ok(())
    })?;
    ensure!(driver.called() == ["NodeStageVolume", "NodePublishVolume"], "{:?}", driver.called());
    let status = cluster.get("node/node-1")?["status"].clone();
    let unique = format!("kubernetes.io/csi/{DRIVER}^vol-1");
    ensure!(status["volumesInUse"] == json!([unique]), "{}", status["volumesInUse"]);
    ensure!(status["volumesAttached"][0]["name"] == unique, "{}", status["volumesAttached"]);
    let events = cluster.kubectl(&format!("get events -n {ns} -o jsonpath={{.items[*].message}}"))?;
    for word in [
        "Waiting for a volume to be created either by the external provisioner",
        "AttachVolume.Attach succeeded for volume \"driven-1\"",
    ] {
        ensure!(events.contains(word), "{events}");
    }

    an_inline_volume(&cluster, &ns, &driver)?;

    // Whatever becomes of the agent, the volume stays mounted, and the next one takes it back.
    cluster.kill()?;
    cluster.start_with(&start)?;
    ready(&cluster)?;
    cluster.kubectl(&format!("exec p -n {ns} -- cat /data/file"))?;
    cluster.kubectl(&format!("delete pod p -n {ns} --timeout=60s"))?;
    eventually("the volume is detached", || {
        let found = cluster.get(&format!("volumeattachment/{attachment}"))?;
        if found["metadata"]["deletionTimestamp"].is_string() { Ok(()) } else { bail!("{found}") }
    })?;
    let calls = driver.called();
    let end = ["NodeUnpublishVolume", "NodeUnstageVolume"];
    ensure!(calls.ends_with(&end.map(str::to_owned)) && calls.len() == 6, "{calls:?}");
    ensure!(mounts(&kubelet_dir)?.is_empty(), "{:?}", mounts(&kubelet_dir)?);
    let patch = r#"{"metadata": {"finalizers": null}}"#;
    cluster.kubectl_args(&["patch", "volumeattachment", &attachment, "--type=merge", "-p", patch])?;
    let gone = |what: &str| {
        eventually(&format!("{what} is gone"), || {
            let said = cluster.kubectl(&format!("get {what} --ignore-not-found -o name"))?;
            if said.is_empty() { Ok(()) } else { bail!("{said}") }
        })
    };
    gone(&format!("volumeattachment/{attachment}"))?;
    let status = cluster.get("node/node-1")?["status"].clone();
    ensure!(status["volumesAttached"].as_array().is_none_or(Vec::is_empty), "{}", status["volumesAttached"]);
    cluster.kubectl(&format!("delete pvc data -n {ns}"))?;
    cluster.expect("pv/driven-1", "{.status.phase}", "Released")?;
    cluster.kubectl("delete pv driven-1")?;
    gone("pv/driven-1")?;
    a_device(&cluster, &ns, &driver, &kubelet_dir)?;
    cluster.reset()?;
    ensure!(!kubelet_dir.join("pods").exists(), "a folder is left");
    Ok(())
}
