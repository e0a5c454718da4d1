use std::sync::{Arc, LazyLock};

use knarr_api::selector::FieldSelector;

use super::Rule;
use super::node_graph::{NodeGraph, Referent};
use crate::bootstrap::node_rules;
use crate::contract::{Attributes, Decision, Lookup, UserInfo};

const READ: [&str; 3] = ["get", "list", "watch"];

/// The name of the node that a user is the agent of.
pub fn node_name_of(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:").filter(|name| !name.is_empty())?;
    user.groups.iter().any(|group| group == "system:nodes").then_some(name)
}

/// The Node authoriser: an agent reads the secrets, config maps, claims and volumes of the pods bound to its
/// node, the certificates of Ingresses that nodes serve, and no others (<https://kubernetes.io/docs/reference/access-authn-authz/node/>). What an agent may
/// write is narrowed further by the NodeRestriction admission plugin.
pub struct NodeAuthorizer {
    graph: NodeGraph,
}

impl NodeAuthorizer {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { graph: NodeGraph::new(lookup) }
    }

    pub fn decide(&self, asked: &Attributes<'_>) -> Decision {
        let Some(node) = node_name_of(asked.user) else { return Decision::NoOpinion(String::new()) };
        if !asked.is_resource {
            return self.by_rules(asked);
        }
        match (asked.group, asked.resource) {
            ("", "pods") if READ.contains(&asked.verb) => self.pods(node, asked),
            ("", "nodes") if READ.contains(&asked.verb) => own_node(node, asked),
            ("", "secrets") => self.read(node, asked, Referent::Secret),
            ("", "configmaps") => self.read(node, asked, Referent::ConfigMap),
            ("", "persistentvolumeclaims") if asked.subresource == "status" => match asked.verb {
                "get" | "update" | "patch" => self.related(node, asked, Referent::PersistentVolumeClaim),
                _ => no("can only get/update/patch this type"),
            },
            ("", "persistentvolumeclaims") => self.get(node, asked, Referent::PersistentVolumeClaim),
            ("resource.k8s.io", "resourceclaims") => self.get(node, asked, Referent::ResourceClaim),
            ("", "persistentvolumes") => {
                only_get(asked).unwrap_or_else(|| relation(node, self.graph.refers_to_volume(node, asked.name)))
            }
            ("storage.k8s.io", "volumeattachments") => {
                only_get(asked).unwrap_or_else(|| relation(node, self.graph.is_attached(node, asked.name)))
            }
            ("", "serviceaccounts") => match (asked.verb, asked.subresource) {
                ("create", "token") => self.related(node, asked, Referent::ServiceAccount),
                _ => no("can only create tokens for individual service accounts"),
            },
            ("coordination.k8s.io", "leases") => lease(node, asked),
            ("storage.k8s.io", "csinodes") => csi_node(node, asked),
            ("resource.k8s.io", "resourceslices") => match asked.verb {
                "get" | "list" | "watch" | "create" | "update" | "patch" | "delete" | "deletecollection" => {
                    Decision::Allow
                }
                _ => no("can only get, list, watch, create, update, patch, or delete a ResourceSlice"),
            },
            _ => self.by_rules(asked),
        }
    }

    fn by_rules(&self, asked: &Attributes<'_>) -> Decision {
        static RULES: LazyLock<Vec<Rule>> = LazyLock::new(node_rules);
        match RULES.iter().any(|rule| rule.allows(asked)) {
            true => Decision::Allow,
            false => Decision::NoOpinion(String::new()),
        }
    }

    /// The pods bound to the node, and no others (upstream: AuthorizeNodeWithSelectors).
    fn pods(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        if !asked.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if asked.verb == "get" {
            return relation(node, self.graph.is_bound(node, asked.namespace, asked.name));
        }
        let selector = FieldSelector::parse(asked.field_selector).unwrap_or_default();
        match selector.exact("spec.nodeName") == Some(node) {
            true => Decision::Allow,
            false => no("can only list/watch pods with spec.nodeName field selector"),
        }
    }

    /// List and watch pass where a field selector on `metadata.name` makes them reads of one object.
    fn read(&self, node: &str, asked: &Attributes<'_>, referent: Referent) -> Decision {
        if !READ.contains(&asked.verb) {
            return no("can only read resources of this type");
        }
        if !asked.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if asked.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        if asked.name.is_empty() {
            return no("No Object name found");
        }
        let decision = self.related(node, asked, referent);
        if decision != Decision::Allow
            && referent == Referent::Secret
            && (self.graph.refers_to_secret_of_volume(node, asked.namespace, asked.name)
                || self.graph.is_certificate(asked.namespace, asked.name))
        {
            return Decision::Allow;
        }
        decision
    }

    fn get(&self, node: &str, asked: &Attributes<'_>, referent: Referent) -> Decision {
        only_get(asked).unwrap_or_else(|| self.related(node, asked, referent))
    }

    fn related(&self, node: &str, asked: &Attributes<'_>, referent: Referent) -> Decision {
        if asked.name.is_empty() {
            return no("No Object name found");
        }
        relation(node, self.graph.refers(node, referent, asked.namespace, asked.name))
    }
}

fn no(reason: &str) -> Decision {
    Decision::NoOpinion(reason.to_owned())
}

fn relation(node: &str, found: bool) -> Decision {
    match found {
        true => Decision::Allow,
        false => Decision::NoOpinion(format!("no relationship found between node '{node}' and this object")),
    }
}

fn only_get(asked: &Attributes<'_>) -> Option<Decision> {
    if asked.verb != "get" {
        return Some(no("can only get individual resources of this type"));
    }
    (!asked.subresource.is_empty()).then(|| no("cannot get subresource"))
}

/// List and watch are of one node by a field selector on `metadata.name`.
fn own_node(node: &str, asked: &Attributes<'_>) -> Decision {
    match (asked.subresource, asked.name == node) {
        ("", true) => Decision::Allow,
        ("", false) => Decision::NoOpinion(format!("node '{node}' cannot read all nodes, only its own Node object")),
        _ => no("cannot read subresource"),
    }
}

fn lease(node: &str, asked: &Attributes<'_>) -> Decision {
    if asked.namespace != "kube-node-lease" {
        return no("can only access leases in the \"kube-node-lease\" system namespace");
    }
    match asked.verb {
        // The name is not known yet; NodeRestriction checks it.
        "create" => Decision::Allow,
        "get" | "update" | "patch" | "delete" if asked.name == node => Decision::Allow,
        "get" | "update" | "patch" | "delete" => {
            no("can only access node lease with the same name as the requesting node")
        }
        _ => no("can only get, create, update, patch, or delete a node lease"),
    }
}

fn csi_node(node: &str, asked: &Attributes<'_>) -> Decision {
    if !asked.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    match asked.verb {
        "create" => Decision::Allow,
        "get" | "update" | "patch" | "delete" if asked.name == node => Decision::Allow,
        "get" | "update" | "patch" | "delete" => {
            no("can only access CSINode with the same name as the requesting node")
        }
        _ => no("can only get, create, update, patch, or delete a CSINode"),
    }
}
