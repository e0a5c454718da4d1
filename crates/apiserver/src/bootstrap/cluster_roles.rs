//! The default ClusterRoles but those of controllers and people, as Kubernetes documents them
//! (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings>).

use super::policy::{EVENTS, READ, READ_UPDATE, RoleRow, Row, named, rule, urls};

const CERTIFICATES: &str = "certificates.k8s.io";

pub(super) const NODE: &[Row] = &[
    // Asking who a client is and what it may do, for the agent's own port.
    rule("create", "authentication.k8s.io", "tokenreviews"),
    rule("create", "authorization.k8s.io", "subjectaccessreviews localsubjectaccessreviews"),
    rule(READ, "core", "services"),
    rule("create get list watch patch update", "core", "nodes"),
    rule("patch update", "core", "nodes/status"),
    EVENTS,
    rule(READ, "core", "pods"),
    // Mirror pods of static ones.
    rule("create delete", "core", "pods"),
    rule("patch update", "core", "pods/status"),
    rule("create", "core", "pods/eviction"),
    rule(READ, "core", "secrets configmaps"),
    rule("get", "core", "persistentvolumeclaims persistentvolumes"),
    rule("get", "core", "endpoints"),
    rule("create get list watch", CERTIFICATES, "certificatesigningrequests"),
    rule(READ, CERTIFICATES, "clustertrustbundles"),
    rule("create delete get patch update", "coordination.k8s.io", "leases"),
    rule("get", "storage.k8s.io", "volumeattachments"),
    rule("get patch update", "core", "persistentvolumeclaims/status"),
    rule("create", "core", "serviceaccounts/token"),
    rule(READ, "storage.k8s.io", "csidrivers"),
    rule("create delete get patch update", "storage.k8s.io", "csinodes"),
    rule(READ, "node.k8s.io", "runtimeclasses"),
    rule("get", "resource.k8s.io", "resourceclaims"),
    rule("create delete deletecollection get list patch update watch", "resource.k8s.io", "resourceslices"),
];

pub(super) const CLUSTER_ROLES: &[RoleRow] = &[
    ("cluster-admin", &[rule("*", "*", "*"), urls("*", "*")]),
    (
        "system:discovery",
        &[urls("get", "/livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*")],
    ),
    (
        "system:monitoring",
        &[urls("get", "/metrics /metrics/slis /livez /readyz /healthz /livez/* /readyz/* /healthz/*")],
    ),
    (
        "system:basic-user",
        &[
            rule("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
            rule("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    ("system:public-info-viewer", &[urls("get", "/livez /readyz /healthz /version /version/")]),
    ("system:heapster", &[rule(READ, "core", "events pods nodes namespaces"), rule(READ, "extensions", "deployments")]),
    ("system:node-problem-detector", &[rule("get", "core", "nodes"), rule("patch", "core", "nodes/status"), EVENTS]),
    (
        "system:kubelet-api-admin",
        &[
            rule(READ, "core", "nodes"),
            rule("proxy", "core", "nodes"),
            rule("*", "core", "nodes/proxy nodes/metrics nodes/stats nodes/log nodes/healthz nodes/pods nodes/configz"),
        ],
    ),
    ("system:node-bootstrapper", &[rule("create get list watch", CERTIFICATES, "certificatesigningrequests")]),
    (
        "system:auth-delegator",
        &[
            rule("create", "authentication.k8s.io", "tokenreviews"),
            rule("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    ("system:kube-aggregator", &[rule(READ, "core", "services endpoints")]),
    (
        "system:kube-controller-manager",
        &[
            EVENTS,
            rule("create", "coordination.k8s.io", "leases"),
            named("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
            rule("create", "core", "secrets serviceaccounts"),
            rule("delete", "core", "secrets"),
            rule("get", "core", "namespaces secrets serviceaccounts configmaps"),
            rule("update", "core", "secrets serviceaccounts"),
            rule("create", "authentication.k8s.io", "tokenreviews"),
            rule("create", "authorization.k8s.io", "subjectaccessreviews"),
            // All controllers share one set of informers.
            rule("list watch", "*", "*"),
            rule("create", "core", "serviceaccounts/token"),
        ],
    ),
    ("system:kube-dns", &[rule("list watch", "core", "endpoints services")]),
    (
        "system:persistent-volume-provisioner",
        &[
            rule("create delete get list watch", "core", "persistentvolumes"),
            rule("get list update watch", "core", "persistentvolumeclaims"),
            rule(READ, "storage.k8s.io", "storageclasses"),
            rule("watch", "core", "events"),
            EVENTS,
        ],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[rule("create", CERTIFICATES, "certificatesigningrequests/nodeclient")],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[rule("create", CERTIFICATES, "certificatesigningrequests/selfnodeclient")],
    ),
    (
        "system:volume-scheduler",
        &[
            rule(READ_UPDATE, "core", "persistentvolumes"),
            rule(READ, "storage.k8s.io", "storageclasses"),
            rule(READ_UPDATE, "core", "persistentvolumeclaims"),
        ],
    ),
    (
        "system:certificates.k8s.io:legacy-unknown-approver",
        &[named("approve", CERTIFICATES, "signers", "kubernetes.io/legacy-unknown")],
    ),
    (
        "system:certificates.k8s.io:kubelet-serving-approver",
        &[named("approve", CERTIFICATES, "signers", "kubernetes.io/kubelet-serving")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[named("approve", CERTIFICATES, "signers", "kubernetes.io/kube-apiserver-client")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &[named("approve", CERTIFICATES, "signers", "kubernetes.io/kube-apiserver-client-kubelet")],
    ),
    (
        "system:service-account-issuer-discovery",
        &[urls(
            "get",
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        )],
    ),
    ("system:cluster-trust-bundle-discovery", &[rule(READ, CERTIFICATES, "clustertrustbundles")]),
    (
        "system:node-proxier",
        &[
            rule("list watch", "core", "services endpoints"),
            rule(READ, "core", "nodes"),
            EVENTS,
            rule("list watch", "discovery.k8s.io", "endpointslices"),
            rule("list watch", "networking.k8s.io", "servicecidrs"),
        ],
    ),
    (
        // Knarr's agent runs the service proxy, DNS, routes between nodes and network policy under its node's own name.
        // Pods other than its own are not for it to see.
        "knarr:node-proxier",
        &[
            rule("list watch", "core", "services endpoints namespaces nodes"),
            rule("list watch", "discovery.k8s.io", "endpointslices"),
            rule("list watch", "networking.k8s.io", "servicecidrs networkpolicies ingresses ingressclasses"),
        ],
    ),
    (
        // The built-in provisioner on each node. Of volumes a node may write its own only: NodeRestriction sees to it.
        "knarr:local-provisioner",
        &[
            rule("create delete get list update watch", "core", "persistentvolumes"),
            rule(READ, "core", "persistentvolumeclaims"),
            rule(READ, "storage.k8s.io", "storageclasses"),
        ],
    ),
    (
        "system:kube-scheduler",
        &[
            EVENTS,
            rule("create", "coordination.k8s.io", "leases"),
            named("get update", "coordination.k8s.io", "leases", "kube-scheduler"),
            rule(READ, "core", "nodes namespaces"),
            rule("delete get list watch", "core", "pods"),
            rule("create", "core", "pods/binding bindings"),
            rule("patch update", "core", "pods/status"),
            rule(READ, "core", "services replicationcontrollers"),
            rule(READ, "apps extensions", "replicasets"),
            rule(READ, "apps", "statefulsets"),
            rule(READ, "policy", "poddisruptionbudgets"),
            rule(READ, "core", "persistentvolumeclaims persistentvolumes"),
            rule("create", "authentication.k8s.io", "tokenreviews"),
            rule("create", "authorization.k8s.io", "subjectaccessreviews"),
            rule(READ, "storage.k8s.io", "csinodes csidrivers csistoragecapacities volumeattachments storageclasses"),
            rule(READ, "scheduling.k8s.io", "priorityclasses"),
            rule(READ, "resource.k8s.io", "deviceclasses resourceslices resourceclaims"),
            rule("patch update", "resource.k8s.io", "resourceclaims resourceclaims/status"),
        ],
    ),
];
