use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use k8s_openapi::{
    api::{
        core::v1::{PersistentVolume, PersistentVolumeClaim},
        storage::v1::StorageClass,
    },
    serde_json::{Value, from_value, json},
};

use super::{
    disk,
    plan::{self, Fate},
};

fn class(change: Value) -> StorageClass {
    let mut class = json!({"metadata": {"name": "local"}, "provisioner": "knarr.dev/local", "reclaimPolicy": "Delete"});
    class.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    from_value(class).unwrap()
}

fn claim(spec: Value, annotations: Value) -> PersistentVolumeClaim {
    let mut whole = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    from_value(
        json!({"metadata": {"name": "c", "namespace": "d", "uid": "u1", "annotations": annotations}, "spec": whole}),
    )
    .unwrap()
}

#[test]
fn a_claim_is_served_by_the_node_that_was_chosen() {
    let asks = |node: &str, by: &str| json!({"volume.kubernetes.io/selected-node": node, "volume.kubernetes.io/storage-provisioner": by});
    for (annotations, spec, expected) in [
        (asks("n1", "knarr.dev/local"), json!({}), true),
        (asks("n2", "knarr.dev/local"), json!({}), false),
        (asks("n1", "example.com/other"), json!({}), false),
        (json!({"volume.kubernetes.io/storage-provisioner": "knarr.dev/local"}), json!({}), false),
        (asks("n1", "knarr.dev/local"), json!({"volumeName": "v"}), false),
    ] {
        assert_eq!(plan::is_wanted(&claim(spec, annotations.clone()), "n1"), expected, "{annotations}");
    }
}

#[test]
fn what_a_directory_cannot_be_is_refused() {
    for (spec, of_class, expected) in [
        (json!({}), json!({}), None),
        (json!({"accessModes": ["ReadWriteOncePod"]}), json!({}), None),
        (json!({"accessModes": ["ReadWriteMany"]}), json!({}), Some("cannot be ReadWriteMany")),
        (json!({"volumeMode": "Block"}), json!({}), Some("volumeMode: Block")),
        (json!({"selector": {}}), json!({}), Some("Selector")),
        (json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "x"}}), json!({}), Some("dataSource")),
        (json!({"volumeAttributesClassName": "gold"}), json!({}), Some("volumeAttributesClassName \"gold\"")),
        (json!({"volumeAttributesClassName": ""}), json!({}), None),
        (json!({}), json!({"parameters": {"type": "ssd"}}), Some("\"type\"")),
        (json!({}), json!({"mountOptions": ["noatime"]}), Some("mountOptions")),
    ] {
        let said = plan::refusal(&claim(spec.clone(), json!({})), &class(of_class.clone()));
        let as_expected = match (&said, expected) {
            (Some(said), Some(expected)) => said.contains(expected),
            (None, None) => true,
            _ => false,
        };
        assert!(as_expected, "{spec} {of_class}: {said:?}");
    }
}

#[test]
fn a_volume_says_whose_it_is_and_where() {
    let claim = claim(json!({}), json!({}));
    let volume = plan::volume(&claim, &class(json!({})), Path::new("/data/volumes/pvc-u1"), "n1");
    assert!(plan::is_of(&volume, "n1") && !plan::is_of(&volume, "n2"));
    assert_eq!(plan::path(&volume), Path::new("/data/volumes/pvc-u1"));
    assert!(knarr_api::volume::is_bound_to(&volume, &claim));
    assert_eq!(
        volume.metadata.finalizers.as_deref(),
        Some(&["external-provisioner.volume.kubernetes.io/finalizer".to_owned()][..])
    );
    let kept = plan::volume(&claim, &class(json!({"reclaimPolicy": "Retain"})), Path::new("/x"), "n1");
    assert_eq!(kept.metadata.finalizers, None);
}

#[test]
fn a_volume_goes_when_nobody_wants_it_and_its_policy_says_so() {
    let held = json!(["external-provisioner.volume.kubernetes.io/finalizer"]);
    for (phase, policy, is_going, expected) in [
        ("Bound", "Delete", false, Fate::Stay),
        ("Bound", "Delete", true, Fate::Stay),
        ("Released", "Delete", false, Fate::Remove),
        ("Failed", "Delete", false, Fate::Remove),
        ("Released", "Retain", false, Fate::Stay),
        ("Released", "Retain", true, Fate::LetGo),
        ("Available", "Delete", false, Fate::Stay),
        ("Available", "Delete", true, Fate::Remove),
    ] {
        let going = if is_going { json!("2026-01-01T00:00:00Z") } else { Value::Null };
        let volume: PersistentVolume = from_value(json!({
            "metadata": {"name": "v", "finalizers": held, "deletionTimestamp": going},
            "spec": {"persistentVolumeReclaimPolicy": policy}, "status": {"phase": phase},
        }))
        .unwrap();
        assert_eq!(plan::fate(&volume), expected, "{phase} {policy} {is_going}");
    }
}

#[test]
fn nothing_but_own_directories_is_made_or_removed() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("volumes");
    disk::make(&dir, "pvc-1").unwrap();
    let path = dir.join("pvc-1");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o777);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    fs::write(path.join("data"), "kept").unwrap();
    disk::make(&dir, "pvc-1").unwrap();
    assert_eq!(fs::read_to_string(path.join("data")).unwrap(), "kept", "a second attempt changes nothing");

    let outside = root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "").unwrap();
    std::os::unix::fs::symlink(&outside, path.join("link")).unwrap();
    std::os::unix::fs::symlink(&outside, dir.join("pvc-link")).unwrap();
    for (name, told) in [
        ("pvc-link", dir.join("pvc-link")),
        ("pvc-1", outside.clone()),
        ("../outside", outside.clone()),
        ("..", root.path().to_owned()),
        ("", dir.clone()),
    ] {
        assert!(disk::remove(&dir, name, &told).is_err(), "{name:?}");
        assert!(outside.join("precious").exists() && path.exists(), "{name:?}");
    }
    assert!(disk::make(&dir, "pvc-link").is_err());
    disk::remove(&dir, "pvc-1", &path).unwrap();
    assert!(!path.exists() && outside.join("precious").exists(), "the link goes, and not what it leads to");
    disk::remove(&dir, "pvc-1", &path).unwrap();
}
