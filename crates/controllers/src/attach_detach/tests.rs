use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume},
    storage::v1::VolumeAttachment,
};
use knarr_api::volume as rules;
use knarr_client::lean::Pod;
use serde_json::{Value, from_value, json};

use super::plan::{Step, Wanted, World, plan};

const UNIQUE: &str = "kubernetes.io/csi/d.io^h";

fn volume(mode: &str) -> Arc<PersistentVolume> {
    let spec = json!({"csi": {"driver": "d.io", "volumeHandle": "h"}, "accessModes": [mode]});
    Arc::new(from_value(json!({"metadata": {"name": "pv"}, "spec": spec})).unwrap())
}

fn pod(name: &str, node: &str) -> Arc<Pod> {
    Arc::new(from_value(json!({"metadata": {"name": name}, "spec": {"nodeName": node}})).unwrap())
}

fn attachment(node: &str, status: Value, is_going: bool) -> Arc<VolumeAttachment> {
    let mut meta = json!({"name": rules::attachment_name("d.io", "h", node)});
    if is_going {
        meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let spec = json!({"attacher": "d.io", "nodeName": node, "source": {"persistentVolumeName": "pv"}});
    Arc::new(from_value(json!({"metadata": meta, "spec": spec, "status": status})).unwrap())
}

/// What one look at the node `n` comes to, in short.
struct Case {
    node: Option<Value>,
    wanted: bool,
    mode: &'static str,
    attachments: Vec<Arc<VolumeAttachment>>,
    waiting: HashMap<String, Timestamp>,
    others: Vec<Arc<Pod>>,
    is_volume_gone: bool,
}

impl Default for Case {
    fn default() -> Self {
        let node =
            Some(json!({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
        let (attachments, waiting, others) = (Vec::new(), HashMap::new(), Vec::new());
        Self { node, wanted: true, mode: "ReadWriteOnce", attachments, waiting, others, is_volume_gone: false }
    }
}

impl Case {
    fn status(mut self, status: Value) -> Self {
        for (key, value) in status.as_object().unwrap() {
            self.node.as_mut().unwrap()["status"][key] = value.clone();
        }
        self
    }

    fn said(mut self) -> String {
        let volume = volume(self.mode);
        let node: Option<Node> = self.node.map(|node| from_value(node).unwrap());
        let wanted = Wanted { volume: volume.clone(), pods: vec![pod("p", "n")] };
        let wanted = if self.wanted { vec![wanted] } else { Vec::new() };
        let world = World { name: "n", node: node.as_ref(), wanted: &wanted, attachments: &self.attachments };
        let found = |_: &str| (!self.is_volume_gone).then(|| volume.clone());
        let users = |_: &PersistentVolume| self.others.clone();
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let steps = plan(&world, &found, &users, &mut self.waiting, now);
        let short = steps.into_iter().map(|step| match step {
            Step::Attach(made) => format!("attach to {}", made.spec.node_name),
            Step::Detach(gone) => format!("detach from {}", gone.spec.node_name),
            Step::Report(node) => {
                let all = node.status.unwrap().volumes_attached.unwrap();
                format!("report {:?}", all.into_iter().map(|one| one.name).collect::<Vec<_>>())
            }
            Step::Say(pod, _, reason, message) => {
                format!("{reason} {}: {message}", pod.metadata.name.as_deref().unwrap())
            }
            Step::Wait(time) => format!("wait {time:?}"),
        });
        short.collect::<Vec<_>>().join(", ")
    }
}

fn attached() -> Value {
    json!({"attached": true})
}

#[test]
fn a_volume_is_attached_where_its_pod_is() {
    let shown = json!({"volumesAttached": [{"name": UNIQUE, "devicePath": ""}]});
    let none = json!({"attached": false});
    let failed = json!({"attached": false, "attachError": {"message": "no slot"}});
    let with = |attachments| Case { attachments, ..Case::default() };
    let other = || attachment("m", attached(), false);
    for (case, expected) in [
        (Case::default(), "attach to n"),
        (with(vec![attachment("n", none.clone(), false)]), ""),
        (
            with(vec![attachment("n", attached(), false)]),
            "report [\"kubernetes.io/csi/d.io^h\"], SuccessfulAttachVolume p: AttachVolume.Attach succeeded for volume \"pv\" ",
        ),
        (with(vec![attachment("n", attached(), false)]).status(shown.clone()), ""),
        (
            with(vec![attachment("n", failed, false)]),
            "FailedAttachVolume p: AttachVolume.Attach failed for volume \"pv\" : no slot",
        ),
        // It is going: until it is gone nobody may use it, and no other can be made.
        (with(vec![attachment("n", attached(), true)]).status(shown.clone()), "report []"),
        (
            with(vec![other()]),
            "FailedAttachVolume p: Multi-Attach error for volume \"pv\" Volume is already exclusively attached to one \
             node and can't be attached to another",
        ),
        (
            Case { others: vec![pod("p", "n"), pod("q", "m")], ..with(vec![other()]) },
            "FailedAttachVolume p: Multi-Attach error for volume \"pv\" Volume is already used by pod(s) q",
        ),
        (Case { mode: "ReadWriteMany", ..with(vec![other()]) }, "attach to n"),
        (Case { node: None, ..Case::default() }, ""),
    ] {
        assert_eq!(case.said(), expected);
    }
}

#[test]
fn a_volume_is_detached_when_its_node_has_let_go() {
    let here = || vec![attachment("n", attached(), false)];
    let left = || Case { wanted: false, attachments: here(), ..Case::default() };
    let shown = || json!({"volumesAttached": [{"name": UNIQUE, "devicePath": ""}]});
    let used = || json!({"volumesAttached": [{"name": UNIQUE, "devicePath": ""}], "volumesInUse": [UNIQUE]});
    let silent = || json!({"conditions": [{"type": "Ready", "status": "Unknown"}]});
    let since = |time: &str| HashMap::from([(rules::attachment_name("d.io", "h", "n"), time.parse().unwrap())]);
    let mut out = left().status(used());
    out.node.as_mut().unwrap()["spec"] =
        json!({"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]});
    for (case, expected) in [
        (left().status(shown()), "report [], detach from n"),
        (left(), "detach from n"),
        (left().status(used()), "wait 360s"),
        (Case { is_volume_gone: true, ..left().status(used()) }, "wait 360s"),
        // A node that speaks is waited for as long as it takes.
        (Case { waiting: since("2026-01-01T00:00:00Z"), ..left().status(used()) }, "wait 60s"),
        (Case { waiting: since("2026-01-01T00:05:00Z"), ..left().status(used()).status(silent()) }, "wait 60s"),
        (
            Case { waiting: since("2026-01-01T00:04:00Z"), ..left().status(used()).status(silent()) },
            "report [], detach from n",
        ),
        (out, "report [], detach from n"),
        (Case { node: None, ..left() }, "detach from n"),
        (Case { attachments: vec![attachment("n", attached(), true)], ..left() }, ""),
    ] {
        assert_eq!(case.said(), expected);
    }
}
