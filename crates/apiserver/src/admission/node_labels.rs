//! Which labels a node's agent may set on its own Node.

use std::collections::BTreeSet;

use serde_json::Value;

/// Labels in Kubernetes' own namespaces that agents report; all others there are the administrator's.
const ALLOWED: [&str; 14] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.k8s.aws/zone-id",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "node.kubernetes.io/windows-build",
    "node.kubernetes.io/exclude-from-external-load-balancers",
];

fn is_below(namespace: &str, domain: &str) -> bool {
    namespace == domain || namespace.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// Labels that say what may run on a node are not for the node to set.
pub fn is_forbidden(key: &str) -> bool {
    let Some((namespace, _)) = key.split_once('/') else { return false };
    if is_below(namespace, "node-restriction.kubernetes.io") {
        return true;
    }
    if !is_below(namespace, "kubernetes.io") && !is_below(namespace, "k8s.io") {
        return false;
    }
    let reported = is_below(namespace, "kubelet.kubernetes.io") || is_below(namespace, "node.kubernetes.io");
    !reported && !ALLOWED.contains(&key)
}

/// The labels that a change touches and an agent may not.
pub(super) fn forbidden_changes(new: &Value, old: Option<&Value>) -> BTreeSet<String> {
    let labels = |node: &Value| node["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let (new, old) = (labels(new), old.map(labels).unwrap_or_default());
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    keys.into_iter().filter(|key| new.get(*key) != old.get(*key) && is_forbidden(key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::forbidden_changes;

    #[test]
    fn agents_may_report_but_not_restrict() {
        for (key, allowed) in [
            ("kubernetes.io/hostname", true),
            ("node.kubernetes.io/anything", true),
            ("kubelet.kubernetes.io/anything", true),
            ("example.org/mine", true),
            ("plain", true),
            ("node-role.kubernetes.io/control-plane", false),
            ("node-restriction.kubernetes.io/zone", false),
            ("sub.node-restriction.kubernetes.io/zone", false),
            ("kubernetes.io/role", false),
            ("storage.k8s.io/x", false),
            ("notkubernetes.io/x", true),
        ] {
            let node = json!({ "metadata": { "labels": { key: "x" } } });
            assert_eq!(forbidden_changes(&node, None).is_empty(), allowed, "{key}");
            assert!(forbidden_changes(&node, Some(&node)).is_empty(), "what stays as it is does no harm: {key}");
        }
    }
}
