use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use k8s_openapi::api::core::v1::Pod;
use knarr_cri::v1::Mount;
use serde_json::{Value, json};

use super::{FileContent, Tokens, atomic, container_devices, container_mounts, desired, desired::Content};
use crate::pod::{
    containers::Containers,
    downward::{Allocatable, Facts},
    references::Snapshot,
};

fn files(list: &[(&str, &str)]) -> BTreeMap<String, FileContent> {
    let file = |text: &str| FileContent { bytes: text.as_bytes().to_vec(), mode: 0o640, owner: None };
    list.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
}

/// What a reader sees, through the links.
fn content(dir: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
            if name.starts_with("..") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                all.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    all
}

#[test]
fn files_are_replaced_together() {
    let dir = tempfile::tempdir().unwrap();
    let mut folders = Vec::new();
    for (write, new_folder) in [
        (&[("a", "1"), ("sub/b", "2")][..], true),
        (&[("a", "1"), ("sub/b", "2")], false),
        (&[("a", "x"), ("c", "3")], true),
        (&[], true),
    ] {
        atomic::write(dir.path(), &files(write), None).unwrap();
        let expected: BTreeMap<_, _> =
            write.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        assert_eq!(content(dir.path()), expected);
        let folder = fs::read_link(dir.path().join("..data")).unwrap();
        assert_eq!(folders.last() != Some(&folder), new_folder, "{write:?}");
        folders.push(folder);
        // Nothing of earlier writes is left.
        let dots = fs::read_dir(dir.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".."));
        assert_eq!(dots.count(), 2);
    }
}

#[test]
fn modes_and_groups_are_as_asked() {
    assert!(rustix::process::geteuid().is_root(), "this test gives files to a group; run it as root");
    let file = |mode| FileContent { bytes: b"x".to_vec(), mode, owner: Some(1234) };
    for (group, mode, root, folder, expected) in [
        (None, 0o640, 0o777, 0o755, (1234, 0, 0o640)),
        (Some(2345), 0o644, 0o2777, 0o2755, (1234, 2345, 0o644)),
        (Some(2345), 0o600, 0o2777, 0o2755, (1234, 2345, 0o640)),
        (Some(2345), 0o755, 0o2777, 0o2755, (1234, 2345, 0o755)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        // As `umask 077` would have left it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        atomic::write(dir.path(), &BTreeMap::from([("sub/t".to_owned(), file(mode))]), group).unwrap();
        let of = |path: &str| fs::metadata(dir.path().join(path)).unwrap();
        let found = of("sub/t");
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), expected);
        let gid = group.unwrap_or(0);
        assert_eq!((of("").gid(), of("").mode() & 0o7777), (gid, root));
        for path in ["..data", "..data/sub"] {
            assert_eq!((of(path).gid(), of(path).mode() & 0o7777), (gid, folder), "{path}");
        }
    }
}

fn pod(spec: Value) -> Pod {
    let meta = json!({"name": "p", "namespace": "d", "uid": "u", "labels": {"app": "web", "q": "say \"hi\"\n"}});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
}

fn snapshot() -> Snapshot {
    let map = json!({"metadata": {"name": "m"}, "data": {"a": "1", "b": "2"}, "binaryData": {"c": "Aw=="}});
    let secret = json!({"metadata": {"name": "s"}, "data": {"key": "c2VjcmV0"}});
    let bundle = |name: &str, signer: Option<&str>, tier: &str, contents: &[&str]| {
        let pem: String = contents.iter().map(|text| knarr_api::pem::encode("CERTIFICATE", text.as_bytes())).collect();
        let meta = json!({"name": name, "labels": {"tier": tier}});
        let spec = json!({"signerName": signer, "trustBundle": format!("words\n{pem}")});
        Arc::new(serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap())
    };
    Snapshot {
        trust_bundles: Some(vec![
            bundle("plain", None, "a", &["b", "a", "b"]),
            bundle("s.io:s:1", Some("s.io/s"), "a", &["c", "d"]),
            bundle("s.io:s:2", Some("s.io/s"), "b", &["d", "a"]),
            bundle("s.io:t:1", Some("s.io/t"), "a", &["e"]),
        ]),
        config_maps: [("m".to_owned(), Arc::new(serde_json::from_value(map).unwrap()))].into(),
        secrets: [("s".to_owned(), Arc::new(serde_json::from_value(secret).unwrap()))].into(),
        unknown: Default::default(),
    }
}

/// The files of the one volume, as `path=text(mode)`, or the error.
fn wanted(volume: Value) -> String {
    let mut volume = volume;
    volume["name"] = json!("v");
    let pod = pod(
        json!({"volumes": [volume], "containers": [{"name": "a", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}}}]}),
    );
    let containers = Containers::of(&pod);
    let ips = ["10.0.0.1".to_owned()];
    let facts = Facts {
        pod: &pod,
        containers: &containers,
        pod_ips: &ips,
        host_ips: &ips,
        allocatable: Allocatable::default(),
    };
    let all = desired::all(facts, &snapshot(), &Tokens::default(), &Default::default(), Path::new("/pods/u"));
    match &all[0] {
        Err(error) => error.to_string(),
        Ok(desired) => match &desired.content {
            Content::Files { files, .. } => {
                let one = |(path, file): (&String, &FileContent)| {
                    format!("{path}={}({:o})", String::from_utf8_lossy(&file.bytes).escape_debug(), file.mode)
                };
                files.iter().map(one).collect::<Vec<_>>().join(" ")
            }
            other => format!("{other:?}"),
        },
    }
}

#[test]
fn volumes_hold_what_their_sources_say() {
    let failed = |cause: &str| format!("MountVolume.SetUp failed for volume \"v\" : {cause}");
    let downward = |field: &str| json!({"downwardAPI": {"items": [{"path": "f", "fieldRef": {"fieldPath": field}}]}});
    let resource = |resource: &str, divisor: &str| json!({"downwardAPI": {"items": [{"path": "f", "resourceFieldRef": {"containerName": "a", "resource": resource, "divisor": divisor}}]}});
    for (volume, expected) in [
        (json!({"configMap": {"name": "m"}}), "a=1(644) b=2(644) c=\\u{3}(644)".to_owned()),
        (
            json!({"configMap": {"name": "m", "defaultMode": 0o400, "items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z", "mode": 0o755}]}}),
            "x/y=1(400) z=2(755)".to_owned(),
        ),
        (
            json!({"configMap": {"name": "m", "items": [{"key": "no", "path": "x"}]}}),
            failed("references non-existent configmap key: no"),
        ),
        (json!({"configMap": {"name": "m", "optional": true, "items": [{"key": "no", "path": "x"}]}}), String::new()),
        (json!({"configMap": {"name": "gone"}}), failed("configmap \"gone\" not found")),
        (json!({"configMap": {"name": "gone", "optional": true}}), String::new()),
        (
            json!({"configMap": {"name": "m", "items": [{"key": "a", "path": "../x"}]}}),
            failed("invalid path \"../x\": must be relative and may not contain '..'"),
        ),
        (json!({"secret": {"secretName": "s"}}), "key=secret(644)".to_owned()),
        (json!({"secret": {"secretName": "gone"}}), failed("secret \"gone\" not found")),
        (
            json!({"projected": {"defaultMode": 0o440, "sources": [{"configMap": {"name": "m", "items": [{"key": "a", "path": "a"}]}}, {"secret": {"name": "s"}}]}}),
            "a=1(440) key=secret(440)".to_owned(),
        ),
        (downward("metadata.name"), "f=p(644)".to_owned()),
        (downward("metadata.labels['app']"), "f=web(644)".to_owned()),
        (downward("metadata.labels"), "f=app=\\\"web\\\"\\nq=\\\"say \\\\\\\"hi\\\\\\\"\\\\n\\\"(644)".to_owned()),
        (downward("spec.nothing"), failed("unsupported fieldPath: spec.nothing")),
        (resource("limits.cpu", "1"), "f=2(644)".to_owned()),
        (resource("limits.cpu", "1m"), "f=1500(644)".to_owned()),
        (resource("limits.memory", "1Mi"), "f=64(644)".to_owned()),
        (resource("requests.memory", "0"), "f=67108864(644)".to_owned()),
        (json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Ki"}}), "Empty { memory: Some(1024) }".to_owned()),
        (json!({"emptyDir": {"medium": ""}}), "Empty { memory: None }".to_owned()),
        (
            json!({"emptyDir": {"medium": "HugePages-2Mi"}}),
            failed("emptyDir medium \"HugePages-2Mi\" is not supported: this node has no huge pages to give"),
        ),
        (json!({"emptyDir": {"medium": "Tape"}}), failed("unknown storage medium \"Tape\"")),
        (json!({"rbd": {"monitors": ["m"], "image": "i"}}), failed("rbd volumes are not supported by this node")),
    ] {
        assert_eq!(wanted(volume.clone()), expected, "{volume}");
    }
}

/// The bytes of each certificate that the projection has in its file, or the error.
fn trusted(source: Value) -> String {
    let read = |bundles: Option<&[_]>| super::trust::anchors(&serde_json::from_value(source.clone()).unwrap(), bundles);
    assert_eq!(read(None).unwrap_err(), "ClusterTrustBundle informer has not yet synced");
    match read(snapshot().trust_bundles.as_deref()) {
        Err(error) => error,
        Ok(file) => {
            let text = String::from_utf8(file).unwrap();
            let certificate = |block: knarr_api::pem::Block<'_>| {
                assert_eq!(block.label, "CERTIFICATE");
                String::from_utf8(block.bytes).unwrap()
            };
            let count = text.lines().count();
            let found: Vec<_> = knarr_api::pem::blocks(&text).map(certificate).collect();
            assert_eq!(count, found.len() * 3, "nothing stands between them");
            found.join(" ")
        }
    }
}

#[test]
fn bundles_are_joined_and_each_certificate_is_there_once() {
    let none = "combination of signerName and labelSelector matched zero ClusterTrustBundles";
    for (source, expected) in [
        (json!({"name": "plain", "path": "p"}), "a b"),
        (json!({"name": "s.io:s:2", "path": "p"}), "a d"),
        (
            json!({"name": "gone", "path": "p"}),
            "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"gone\" not found",
        ),
        (json!({"name": "gone", "optional": true, "path": "p"}), ""),
        (json!({"signerName": "s.io/s", "labelSelector": {}, "path": "p"}), "a c d"),
        (json!({"signerName": "s.io/s", "labelSelector": {"matchLabels": {"tier": "a"}}, "path": "p"}), "c d"),
        (
            json!({"signerName": "s.io/s", "labelSelector": {"matchExpressions": [{"key": "tier", "operator": "NotIn",
                "values": ["a"]}]}, "path": "p"}),
            "a d",
        ),
        (json!({"signerName": "s.io/s", "labelSelector": {"matchLabels": {"tier": "c"}}, "path": "p"}), none),
        (json!({"signerName": "s.io/s", "path": "p"}), none),
        (json!({"signerName": "s.io/s", "optional": true, "path": "p"}), ""),
        (json!({"signerName": "s.io/u", "labelSelector": {}, "path": "p"}), none),
    ] {
        assert_eq!(trusted(source.clone()), expected, "{source}");
    }
    let volume = |source: Value| json!({"projected": {"sources": [{"clusterTrustBundle": source}]}});
    assert_eq!(wanted(volume(json!({"name": "gone", "optional": true, "path": "x/y"}))), "x/y=(644)");
    let missing = wanted(volume(json!({"signerName": "s.io/u", "labelSelector": {}, "path": "x"})));
    assert_eq!(missing, format!("MountVolume.SetUp failed for volume \"v\" : {none}"));
}

/// What a container of this pod sees at `/v`, or why there is none of it.
fn mounted(dir: &Path, volume: Value, mount: Value) -> Result<Mount, String> {
    let (mut volume, mut mount) = (volume, mount);
    volume["name"] = json!("v");
    mount["name"] = json!("v");
    mount["mountPath"] = json!("/v");
    let pod = pod(json!({"volumes": [volume], "containers": [{"name": "a", "volumeMounts": [mount]}]}));
    let containers = Containers::of(&pod);
    let images = BTreeMap::from([("v".to_owned(), "sha256:1".to_owned())]);
    let images =
        if pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0].image.is_some() { images } else { BTreeMap::new() };
    let env = [("WHO", "me"), ("ROOT", "/etc"), ("EMPTY", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    match container_mounts(&pod, &containers.entries[0], dir, &env, &images) {
        Ok(mut mounts) => Ok(mounts.remove(0)),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn what_the_node_writes_is_read_only() {
    let dir = Path::new("/pods/u");
    for (volume, read_only) in [
        (json!({"emptyDir": {}}), false),
        (json!({"hostPath": {"path": "/srv"}}), false),
        (json!({"configMap": {"name": "m"}}), true),
        (json!({"secret": {"secretName": "s"}}), true),
        (json!({"downwardAPI": {}}), true),
        (json!({"projected": {}}), true),
    ] {
        assert_eq!(mounted(dir, volume.clone(), json!({})).unwrap().readonly, read_only, "{volume}");
        assert!(mounted(dir, volume, json!({"readOnly": true})).unwrap().readonly);
    }
}

#[test]
fn devices_are_passed_with_what_may_be_done_to_them() {
    let dir = tempfile::tempdir().unwrap();
    let claims = dir.path().join("volumes/kubernetes.io~claim");
    fs::create_dir_all(&claims).unwrap();
    let devices = |read_only: bool| {
        let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c", "readOnly": read_only}});
        let container = json!({"name": "a", "volumeDevices": [{"name": "v", "devicePath": "/dev/data"}]});
        let pod = pod(json!({"volumes": [volume], "containers": [container]}));
        let all = container_devices(&pod, &Containers::of(&pod).entries[0], dir.path());
        all.map(|all| {
            all.iter()
                .map(|one| format!("{} {} {}", one.host_path, one.container_path, one.permissions))
                .collect::<Vec<_>>()
        })
    };
    let missing = "cannot find volume \"v\" to pass into container \"a\"";
    assert_eq!(devices(false).unwrap_err().to_string(), missing);
    std::os::unix::fs::symlink("/dev/sdz", claims.join("v")).unwrap();
    assert_eq!(devices(false).unwrap(), ["/dev/sdz /dev/data mrw"]);
    assert_eq!(devices(true).unwrap(), ["/dev/sdz /dev/data r"]);
}

#[test]
fn images_are_mounted_by_the_runtime() {
    let volume = json!({"image": {"reference": "an/image:1"}});
    let mount = mounted(Path::new("/pods/u"), volume.clone(), json!({"subPathExpr": "a/$(WHO)"})).unwrap();
    assert_eq!(mount.image.unwrap().image, "sha256:1");
    assert_eq!((&*mount.image_sub_path, &*mount.host_path, mount.readonly), ("a/me", "", true));
    assert_eq!(
        mounted(Path::new("/pods/u"), volume.clone(), json!({"subPath": "../x"})).unwrap_err(),
        "unable to provision SubPath `../x`: must not contain '..'"
    );
    assert_eq!(wanted(volume), "Image");
}

#[test]
fn sub_paths_stay_inside() {
    assert!(rustix::process::geteuid().is_root(), "this test mounts; run it as root");
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("volumes/kubernetes.io~empty-dir/v");
    fs::create_dir_all(root.join("in")).unwrap();
    std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
    std::os::unix::fs::symlink("in", root.join("link")).unwrap();
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let not_prepared = "failed to prepare subPath for volumeMount \"v\" of container \"a\"";
    for (input, expected) in [
        (json!({}), Ok("")),
        (json!({"subPath": "new/deep"}), Ok("new/deep")),
        (json!({"subPath": "link"}), Ok("in")),
        (json!({"subPath": "./in"}), Ok("in")),
        (json!({"subPath": "out"}), Err(not_prepared)),
        (json!({"subPath": "out/passwd"}), Err(not_prepared)),
        (json!({"subPath": "/etc"}), Err("error SubPath `/etc` must not be an absolute path")),
        (json!({"subPath": "in/../x"}), Err("unable to provision SubPath `in/../x`: must not contain '..'")),
        (json!({"subPathExpr": "$(WHO)"}), Ok("me")),
        (json!({"subPathExpr": "x$$(WHO)"}), Ok("x$(WHO)")),
        (json!({"subPathExpr": "$(ROOT)"}), Err("error SubPath `/etc` must not be an absolute path")),
        (json!({"subPathExpr": "$(EMPTY)"}), Err("missing value for EMPTY")),
        (json!({"subPathExpr": "$(WHO)/$(NOBODY)/$(EMPTY)"}), Err("missing value for EMPTY, NOBODY")),
    ] {
        match (mounted(dir.path(), json!({"emptyDir": {}}), input.clone()), expected) {
            (Ok(mount), Ok(path)) => assert_eq!(inode(mount.host_path.as_ref()), inode(&root.join(path)), "{input}"),
            (found, expected) => assert_eq!(found.err().as_deref(), expected.err(), "{input}"),
        }
    }
    super::remove_pod_folder(dir.path()).unwrap();
}
