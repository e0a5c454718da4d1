//! In which order clients prefer groups and their versions: upstream's numbers, which are the APIServices' too.
//! (`kubernetes/pkg/controlplane/aggregator.go`)

use serde_json::{Value, json};

/// The label of APIServices that the server keeps by itself: `onstart` for those it makes at its start and then leaves
/// to users, `true` for those that come and go with definitions.
pub const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Of groups that are defined by CustomResourceDefinitions.
pub const DEFAULT: (i64, i64) = (1000, 100);

/// Group, version, the priority of the group among groups and of the version in its group. The registry of APIServices
/// itself has no APIService: it is the aggregator's own, and always comes first.
const BUILTIN: &[(&str, &str, i64, i64)] = &[
    ("", "v1", 18000, 1),
    ("apps", "v1", 17800, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v2", 17500, 30),
    ("autoscaling", "v1", 17500, 15),
    ("batch", "v1", 17400, 15),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("certificates.k8s.io", "v1beta1", 17300, 9),
    ("networking.k8s.io", "v1", 17200, 15),
    ("policy", "v1", 17100, 15),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("storage.k8s.io", "v1", 16800, 15),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("node.k8s.io", "v1", 16300, 15),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("resource.k8s.io", "v1", 16200, 15),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
    ("metrics.k8s.io", "v1beta1", 100, 100),
];

const OWN_GROUP: &str = "apiregistration.k8s.io";
const OWN: (i64, i64) = (20000, 15);

/// What a group version that this server answers is worth where no APIService says otherwise.
pub fn of(group: &str, version: &str) -> (i64, i64) {
    if group == OWN_GROUP {
        return OWN;
    }
    let found = BUILTIN.iter().find(|row| (row.0, row.1) == (group, version));
    found.map_or(DEFAULT, |row| (row.2, row.3))
}

/// `VERSION.GROUP`, as APIServices are named; that of the core group ends in the dot.
pub fn name(group: &str, version: &str) -> String {
    format!("{version}.{group}")
}

/// An APIService of a group version that this server answers.
pub fn local_service(group: &str, version: &str, managed: &str) -> Value {
    let (group_priority, version_priority) = of(group, version);
    let mut service = json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": { "name": name(group, version), "labels": { MANAGED: managed } },
        "spec": {
            "version": version,
            "groupPriorityMinimum": group_priority, "versionPriority": version_priority,
        },
    });
    if !group.is_empty() {
        service["spec"]["group"] = group.into();
    }
    service
}

/// The APIServices of the built-in group versions.
pub fn local_services() -> Vec<Value> {
    BUILTIN.iter().map(|(group, version, ..)| local_service(group, version, "onstart")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use knarr_api::registry::builtins;

    use super::*;

    #[test]
    fn every_built_in_group_version_has_its_place() {
        let known: BTreeSet<_> = BUILTIN.iter().map(|row| (row.0, row.1)).collect();
        let served: BTreeSet<_> = builtins().iter().map(|row| (row.group, row.version)).collect();
        let missing: Vec<_> = served.difference(&known).filter(|(group, _)| *group != OWN_GROUP).collect();
        assert_eq!(missing, Vec::<&(&str, &str)>::new());
        assert_eq!(known.difference(&served).count(), 0);
    }
}
