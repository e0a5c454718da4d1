//! `admin`, `edit` and `view`: roles for people. Each is an aggregation, so that whoever adds a resource can
//! add it to them by a label.

use super::policy::{READ, READ_WRITE, Row, WRITE, rule};

const TO_ADMIN: &str = "rbac.authorization.k8s.io/aggregate-to-admin";
const TO_EDIT: &str = "rbac.authorization.k8s.io/aggregate-to-edit";
const TO_VIEW: &str = "rbac.authorization.k8s.io/aggregate-to-view";

/// Who may see what nodes and pods use, named as the usual metrics add-on names it.
const METRICS: &str = "system:aggregated-metrics-reader";

/// Name, label of its own, label it selects, and the roles of [`USER_ROLES`] that come together in it.
pub(super) const AGGREGATED: &[(&str, Option<&str>, &str, &[&str])] = &[
    (
        "admin",
        None,
        TO_ADMIN,
        &["system:aggregate-to-admin", "system:aggregate-to-edit", "system:aggregate-to-view", METRICS],
    ),
    ("edit", Some(TO_ADMIN), TO_EDIT, &["system:aggregate-to-edit", "system:aggregate-to-view", METRICS]),
    ("view", Some(TO_EDIT), TO_VIEW, &["system:aggregate-to-view", METRICS]),
];

/// Name, label, rules.
pub(super) const USER_ROLES: &[(&str, &str, &[Row])] = &[
    (
        "system:aggregate-to-admin",
        TO_ADMIN,
        &[
            rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
            rule(READ_WRITE, "rbac.authorization.k8s.io", "roles rolebindings"),
        ],
    ),
    (
        "system:aggregate-to-edit",
        TO_EDIT,
        &[
            // Reads that let one act as somebody else are not for viewers.
            rule(READ, "core", "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy"),
            rule("impersonate", "core", "serviceaccounts"),
            rule(WRITE, "core", "pods pods/attach pods/proxy pods/exec pods/portforward"),
            rule("create", "core", "pods/eviction"),
            rule(
                WRITE,
                "core",
                "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/proxy \
                 persistentvolumeclaims configmaps secrets events",
            ),
            rule("create", "core", "serviceaccounts/token"),
            rule(
                WRITE,
                "apps",
                "statefulsets statefulsets/scale daemonsets deployments deployments/scale deployments/rollback \
                 replicasets replicasets/scale",
            ),
            rule(WRITE, "autoscaling", "horizontalpodautoscalers"),
            rule(WRITE, "batch", "jobs cronjobs"),
            rule(
                WRITE,
                "extensions",
                "daemonsets deployments deployments/scale deployments/rollback ingresses replicasets \
                 replicasets/scale replicationcontrollers/scale networkpolicies",
            ),
            rule(WRITE, "policy", "poddisruptionbudgets"),
            rule(WRITE, "networking.k8s.io", "networkpolicies ingresses"),
            rule(READ_WRITE, "coordination.k8s.io", "leases"),
            rule(WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
        ],
    ),
    (
        "system:aggregate-to-view",
        TO_VIEW,
        &[
            rule(
                READ,
                "core",
                "pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status \
                 endpoints persistentvolumeclaims persistentvolumeclaims/status configmaps",
            ),
            rule(
                READ,
                "core",
                "limitranges resourcequotas bindings events pods/status resourcequotas/status namespaces/status \
                 replicationcontrollers/status pods/log",
            ),
            // In a namespace this is the right to read that namespace only.
            rule(READ, "core", "namespaces"),
            rule(READ, "discovery.k8s.io", "endpointslices"),
            rule(
                READ,
                "apps",
                "controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets \
                 daemonsets/status deployments deployments/status deployments/scale replicasets replicasets/status \
                 replicasets/scale",
            ),
            rule(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
            rule(READ, "batch", "jobs cronjobs cronjobs/status jobs/status"),
            rule(
                READ,
                "extensions",
                "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses \
                 ingresses/status replicasets replicasets/scale replicasets/status replicationcontrollers/scale \
                 networkpolicies",
            ),
            rule(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
            rule(READ, "networking.k8s.io", "networkpolicies ingresses ingresses/status"),
            rule(READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
        ],
    ),
    (METRICS, TO_VIEW, &[rule(READ, "metrics.k8s.io", "nodes pods")]),
];
