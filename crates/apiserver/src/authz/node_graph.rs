use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use knarr_api::strategy;
use serde_json::Value;

use crate::builtin;
use crate::contract::{Lookup, Stored};

/// Of how many versions of pods the references are kept.
const MAX_READ: usize = 16 * 1024;

/// The controller of IngressClasses that nodes serve themselves.
const BUILT_IN_INGRESS: &str = "knarr.dev/ingress";

/// A kind of object that a pod may refer to in its own namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Referent {
    Secret,
    ConfigMap,
    PersistentVolumeClaim,
    ServiceAccount,
    ResourceClaim,
}

/// What a pod refers to.
type References = HashSet<(Referent, String)>;

/// Which nodes have to do with which objects, through the pods bound to them.
pub(super) struct NodeGraph {
    lookup: Arc<dyn Lookup>,
    /// By the pod's revision, which no other version of any pod has.
    read: Mutex<HashMap<u64, Arc<References>>>,
}

impl NodeGraph {
    pub(super) fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup, read: Mutex::default() }
    }

    /// True where a pod on the node refers to the object.
    pub(super) fn refers(&self, node: &str, referent: Referent, namespace: &str, name: &str) -> bool {
        let wanted = (referent, name.to_owned());
        // The cache keeps the pods of each node: what a node asks costs as much as it has pods, and not as there are.
        let pods = self.lookup.pods_of(node);
        let near = pods.iter().filter(|pod| pod.namespace() == namespace);
        near.map(|pod| self.references(pod)).any(|references| references.contains(&wanted))
    }

    fn references(&self, pod: &Stored) -> Arc<References> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.get(&pod.resource_version) {
            return known.clone();
        }
        if read.len() >= MAX_READ {
            read.clear();
        }
        let references = Arc::new(pod_references(&pod.value()));
        read.insert(pod.resource_version, references.clone());
        references
    }

    /// True where the pod is bound to the node.
    pub(super) fn is_bound(&self, node: &str, namespace: &str, pod: &str) -> bool {
        let found = self.lookup.get(builtin::pods(), namespace, pod);
        found.is_some_and(|stored| node_of(&stored) == Some(node))
    }

    /// True where a pod on the node uses the claim that the volume is bound to.
    pub(super) fn refers_to_volume(&self, node: &str, name: &str) -> bool {
        let Some(volume) = self.lookup.get(builtin::persistent_volumes(), "", name) else { return false };
        self.uses_claim_of(node, &volume.value())
    }

    fn uses_claim_of(&self, node: &str, volume: &Value) -> bool {
        let claim = &volume["spec"]["claimRef"];
        match (claim["namespace"].as_str(), claim["name"].as_str()) {
            (Some(namespace), Some(name)) => self.refers(node, Referent::PersistentVolumeClaim, namespace, name),
            _ => false,
        }
    }

    /// True where a volume used on the node names the secret, as CSI drivers and old volume types do.
    pub(super) fn refers_to_secret_of_volume(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.lookup.list(builtin::persistent_volumes(), "").iter().any(|stored| {
            let volume = stored.value();
            let claim_namespace = volume["spec"]["claimRef"]["namespace"].as_str().unwrap_or_default();
            names_secret(&volume["spec"], claim_namespace, namespace, name) && self.uses_claim_of(node, &volume)
        })
    }

    /// True where an Ingress of the built-in class shows the secret's certificate: every node answers for Ingresses.
    pub(super) fn is_certificate(&self, namespace: &str, name: &str) -> bool {
        let is_built_in = |class: &Value| {
            let class = class.as_str().and_then(|class| self.lookup.get(builtin::ingress_classes(), "", class));
            class.is_some_and(|class| class.value()["spec"]["controller"] == BUILT_IN_INGRESS)
        };
        self.lookup.list(builtin::ingresses(), namespace).iter().any(|stored| {
            let ingress = stored.value();
            let spec = &ingress["spec"];
            let named = spec["tls"].as_array().into_iter().flatten().any(|tls| tls["secretName"] == name);
            let annotated = &ingress["metadata"]["annotations"]["kubernetes.io/ingress.class"];
            named
                && is_built_in(if spec["ingressClassName"].is_string() { &spec["ingressClassName"] } else { annotated })
        })
    }

    /// True where the attachment is of this node.
    pub(super) fn is_attached(&self, node: &str, name: &str) -> bool {
        let attachment = self.lookup.get(builtin::volume_attachments(), "", name);
        attachment.is_some_and(|stored| stored.value()["spec"]["nodeName"] == node)
    }
}

fn names_secret(value: &Value, default_namespace: &str, namespace: &str, name: &str) -> bool {
    let Some(map) = value.as_object() else { return false };
    map.iter().any(|(key, value)| {
        let is_reference = key == "secretRef" || key.ends_with("SecretRef");
        let found = is_reference
            && value["name"] == name
            && value["namespace"].as_str().unwrap_or(default_namespace) == namespace;
        found || names_secret(value, default_namespace, namespace, name)
    })
}

/// Where the cache has noted which node a pod is bound to.
static NODE_NAME: LazyLock<Option<usize>> = LazyLock::new(|| {
    let fields = strategy::of(builtin::pods()).selectable_fields();
    fields.iter().position(|field| *field == "spec.nodeName")
});

fn node_of(pod: &Stored) -> Option<&str> {
    NODE_NAME.and_then(|at| pod.fields.get(at)).map(AsRef::as_ref)
}

/// A mirror pod, which a node makes up itself, gives it no rights.
fn pod_references(pod: &Value) -> References {
    let spec = &pod["spec"];
    if pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some() {
        return References::new();
    }
    let mut names = HashSet::new();
    let mut add = |referent, name: &Value| {
        if let Some(name) = name.as_str() {
            names.insert((referent, name.to_owned()));
        }
    };
    add(Referent::ServiceAccount, &spec["serviceAccountName"]);
    for secret in spec["imagePullSecrets"].as_array().into_iter().flatten() {
        add(Referent::Secret, &secret["name"]);
    }
    for part in ["volumes", "containers", "initContainers", "ephemeralContainers"] {
        collect(&spec[part], &mut add);
    }
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        if volume.get("ephemeral").is_some() {
            let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
            let volume = volume["name"].as_str().unwrap_or_default();
            add(Referent::PersistentVolumeClaim, &Value::String(format!("{pod}-{volume}")));
        }
    }
    for claim in spec["resourceClaims"].as_array().into_iter().flatten() {
        add(Referent::ResourceClaim, &claim["resourceClaimName"]);
    }
    for claim in pod["status"]["resourceClaimStatuses"].as_array().into_iter().flatten() {
        add(Referent::ResourceClaim, &claim["resourceClaimName"]);
    }
    names
}

/// Containers and volumes name what they use under keys that tell its kind.
fn collect(value: &Value, add: &mut impl FnMut(Referent, &Value)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, add)),
        Value::Object(map) => {
            for (key, value) in map {
                match key.as_str() {
                    "secretKeyRef" | "secretRef" | "nodePublishSecretRef" => add(Referent::Secret, &value["name"]),
                    "secret" => {
                        add(Referent::Secret, &value["secretName"]);
                        add(Referent::Secret, &value["name"]);
                    }
                    "azureFile" => add(Referent::Secret, &value["secretName"]),
                    "configMapKeyRef" | "configMapRef" | "configMap" => add(Referent::ConfigMap, &value["name"]),
                    "persistentVolumeClaim" => add(Referent::PersistentVolumeClaim, &value["claimName"]),
                    _ => {}
                }
                collect(value, add);
            }
        }
        _ => {}
    }
}
