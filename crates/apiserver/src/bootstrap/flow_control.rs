//! The default FlowSchemas and PriorityLevelConfigurations
//! (<https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#defaults>).

use knarr_api::{registry::Resource, strategy};
use serde_json::{Value, json};

use crate::{
    builtin,
    json::{annotation, name},
};

/// `false` where the spec of an object that the server brings along is the administrator's.
const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// Queues, hand size, queue length.
type Queuing = (u32, u32, u32);

/// Name, shares, percentage that may be lent, and queues; none: what is too much is turned away.
const LEVELS: &[(&str, u32, u32, Option<Queuing>)] = &[
    ("system", 30, 33, Some((64, 6, 50))),
    ("node-high", 40, 25, Some((64, 6, 50))),
    ("leader-election", 10, 0, Some((16, 4, 50))),
    ("workload-high", 40, 50, Some((128, 6, 50))),
    ("workload-low", 100, 90, Some((128, 6, 50))),
    ("global-default", 20, 50, Some((128, 6, 50))),
    ("catch-all", 5, 0, None),
];

/// All that a cluster begins with, as it is stored: levels first, so that no schema comes before its own.
pub fn all() -> impl Iterator<Item = (&'static Resource, Value)> {
    let of = |resource: &'static Resource, objects: Vec<Value>| objects.into_iter().map(move |one| (resource, one));
    of(builtin::priority_levels(), priority_levels()).chain(of(builtin::flow_schemas(), flow_schemas())).map(
        |(resource, mut object)| {
            strategy::of(resource).default(&mut object);
            (resource, object)
        },
    )
}

/// Gives an object its spec back, unless it is the administrator's, and tells if that changed it. What the server cannot
/// do without is never given away, but for what `exempt` lends.
pub fn repair(found: &mut Value, wanted: &Value) -> bool {
    let is_untouched = found["metadata"]["generation"] == 1;
    let is_ours = match annotation(found, AUTOUPDATE) {
        "" => is_untouched,
        "true" => true,
        _ => false,
    };
    let mut spec = wanted["spec"].clone();
    if !is_ours {
        if !matches!(name(wanted), "exempt" | "catch-all") {
            return false;
        }
        if spec.get("exempt").is_some() {
            spec["exempt"] = found["spec"]["exempt"].clone();
        }
    }
    if found["spec"] == spec {
        return false;
    }
    found["spec"] = spec;
    true
}

pub(super) fn priority_levels() -> Vec<Value> {
    let level = |name: &str, spec: Value| {
        json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
            "kind": "PriorityLevelConfiguration",
            "metadata": { "name": name, "annotations": { AUTOUPDATE: "true" } },
            "spec": spec,
        })
    };
    let limited = LEVELS.iter().map(|(name, shares, lendable, queuing)| {
        let response = match queuing {
            Some((queues, hand, length)) => json!({
                "type": "Queue",
                "queuing": { "queues": queues, "handSize": hand, "queueLengthLimit": length },
            }),
            None => json!({ "type": "Reject" }),
        };
        let spec = json!({
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response,
            },
        });
        level(name, spec)
    });
    let exempt = json!({ "type": "Exempt", "exempt": { "nominalConcurrencyShares": 0, "lendablePercent": 0 } });
    limited.chain([level("exempt", exempt)]).collect()
}

fn user(name: &str) -> Value {
    json!({ "kind": "User", "user": { "name": name } })
}

fn group(name: &str) -> Value {
    json!({ "kind": "Group", "group": { "name": name } })
}

fn account(name: &str) -> Value {
    json!({ "kind": "ServiceAccount", "serviceAccount": { "namespace": "kube-system", "name": name } })
}

fn resources(verbs: &[&str], groups: &[&str], resources: &[&str], namespaces: &[&str]) -> Value {
    let mut rule = json!({ "verbs": verbs, "apiGroups": groups, "resources": resources });
    if namespaces.is_empty() {
        rule["clusterScope"] = true.into();
    } else {
        rule["namespaces"] = json!(namespaces);
    }
    rule
}

fn everything() -> Value {
    let mut rule = resources(&["*"], &["*"], &["*"], &["*"]);
    rule["clusterScope"] = true.into();
    rule
}

fn schema(name: &str, level: &str, precedence: u32, by: Option<&str>, subjects: Value, rules: Vec<Value>) -> Value {
    let everywhere = json!([{ "verbs": ["*"], "nonResourceURLs": ["*"] }]);
    let covers_all = rules.first() == Some(&everything());
    let mut rule = json!({ "subjects": subjects });
    if rules.iter().all(|r| r.get("nonResourceURLs").is_some()) {
        rule["nonResourceRules"] = rules.into();
    } else {
        rule["resourceRules"] = rules.into();
        if covers_all {
            rule["nonResourceRules"] = everywhere;
        }
    }
    let mut object = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": { "name": name, "annotations": { AUTOUPDATE: "true" } },
        "spec": {
            "priorityLevelConfiguration": { "name": level },
            "matchingPrecedence": precedence,
            "rules": [rule],
        },
    });
    if let Some(by) = by {
        object["spec"]["distinguisherMethod"] = json!({ "type": by });
    }
    object
}

pub(super) fn flow_schemas() -> Vec<Value> {
    let (by_user, by_namespace) = (Some("ByUser"), Some("ByNamespace"));
    let components = || json!([user("system:kube-controller-manager"), user("system:kube-scheduler"), account("*")]);
    let leases = |namespaces: &[&str]| {
        resources(&["get", "create", "update"], &["coordination.k8s.io"], &["leases"], namespaces)
    };
    let probes = json!({ "verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"] });
    let everyone = || json!([group("system:unauthenticated"), group("system:authenticated")]);
    let endpoints = [
        resources(&["get", "create", "update"], &[""], &["endpoints"], &["*"]),
        resources(&["get", "create", "update"], &["discovery.k8s.io"], &["endpointslices"], &["*"]),
    ];
    let node_status = [
        resources(&["*"], &[""], &["nodes", "nodes/status"], &[]),
        resources(&["*"], &["coordination.k8s.io"], &["leases"], &["*"]),
    ];
    vec![
        schema("exempt", "exempt", 1, None, json!([group("system:masters")]), vec![everything()]),
        schema("probes", "exempt", 2, None, everyone(), vec![probes]),
        schema("system-leader-election", "leader-election", 100, by_user, components(), vec![leases(&["kube-system"])]),
        schema(
            "endpoint-controller",
            "workload-high",
            150,
            by_user,
            json!([
                user("system:kube-controller-manager"),
                account("endpoint-controller"),
                account("endpointslicemirroring-controller")
            ]),
            endpoints.into(),
        ),
        schema(
            "workload-leader-election",
            "leader-election",
            200,
            by_user,
            json!([account("*")]),
            vec![leases(&["*"])],
        ),
        schema("system-node-high", "node-high", 400, by_user, json!([group("system:nodes")]), node_status.into()),
        schema("system-nodes", "system", 500, by_user, json!([group("system:nodes")]), vec![everything()]),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            by_namespace,
            json!([user("system:kube-controller-manager")]),
            vec![everything()],
        ),
        schema(
            "kube-scheduler",
            "workload-high",
            800,
            by_namespace,
            json!([user("system:kube-scheduler")]),
            vec![everything()],
        ),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            by_namespace,
            json!([account("*")]),
            vec![everything()],
        ),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            by_user,
            json!([group("system:serviceaccounts")]),
            vec![everything()],
        ),
        schema("global-default", "global-default", 9900, by_user, everyone(), vec![everything()]),
        schema("catch-all", "catch-all", 10000, by_user, everyone(), vec![everything()]),
    ]
}
