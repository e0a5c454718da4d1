use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::builtin;
use crate::contract::Lookup;
use crate::derived::Derived;

/// How many namespaces are kept indexed.
const MAX_NAMESPACES: usize = 1024;

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

/// What a pod that is bound to a node refers to.
pub(super) struct PodReferences {
    node: String,
    names: HashSet<(Referent, String)>,
}

/// Which nodes have to do with which objects, through the pods bound to them.
pub(super) struct NodeGraph {
    lookup: Arc<dyn Lookup>,
    namespaces: Mutex<HashMap<String, Derived<PodReferences>>>,
}

impl NodeGraph {
    pub(super) fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup, namespaces: Mutex::default() }
    }

    /// True where a pod on the node refers to the object.
    pub(super) fn refers(&self, node: &str, referent: Referent, namespace: &str, name: &str) -> bool {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if namespaces.len() >= MAX_NAMESPACES && !namespaces.contains_key(namespace) {
            namespaces.clear();
        }
        let pods = namespaces
            .entry(namespace.to_owned())
            .or_insert_with(|| Derived::new(builtin::pods(), namespace, pod_references));
        pods.refresh(&*self.lookup);
        let wanted = (referent, name.to_owned());
        pods.iter().any(|pod| pod.node == node && pod.names.contains(&wanted))
    }

    /// True where the pod is bound to the node.
    pub(super) fn is_bound(&self, node: &str, namespace: &str, pod: &str) -> bool {
        let found = self.lookup.get(builtin::pods(), namespace, pod);
        found.is_some_and(|stored| stored.value()["spec"]["nodeName"] == node)
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

/// A pod that is not bound refers to nothing; neither does a mirror pod, which a node makes up itself.
fn pod_references(pod: &Value) -> Option<PodReferences> {
    let spec = &pod["spec"];
    let node = spec["nodeName"].as_str().filter(|node| !node.is_empty())?;
    if pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some() {
        return None;
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
    Some(PodReferences { node: node.to_owned(), names })
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
