//! Who has the default roles, and the roles that hold in one namespace.

use knarr_api::bootstrap_token::NODE_GROUP;
use serde_json::{Value, json};

use super::controller_roles::{CONTROLLER_ROLES, PREFIX};
use super::policy::{EVENTS, READ, Row, default_metadata, named, rule, rules};

const GROUP: &str = "rbac.authorization.k8s.io";

enum Subject {
    User(&'static str),
    Group(&'static str),
    /// A service account in `kube-system`.
    Account(&'static str),
}

use Subject::{Account, Group, User};

const AUTHENTICATED: Subject = Group("system:authenticated");

/// ClusterRoles and who has them; a binding has the name of its role.
const CLUSTER_BINDINGS: &[(&str, &[Subject])] = &[
    ("cluster-admin", &[Group("system:masters")]),
    ("system:monitoring", &[Group("system:monitoring")]),
    ("system:discovery", &[AUTHENTICATED]),
    ("system:basic-user", &[AUTHENTICATED]),
    ("system:public-info-viewer", &[AUTHENTICATED, Group("system:unauthenticated")]),
    ("system:node-proxier", &[User("system:kube-proxy")]),
    ("system:kube-controller-manager", &[User("system:kube-controller-manager")]),
    ("system:kube-dns", &[Account("kube-dns")]),
    ("system:kube-scheduler", &[User("system:kube-scheduler")]),
    ("system:volume-scheduler", &[User("system:kube-scheduler")]),
    ("system:service-account-issuer-discovery", &[Group("system:serviceaccounts")]),
    ("system:cluster-trust-bundle-discovery", &[Group("system:serviceaccounts")]),
    // Nodes have their rights from the Node authoriser; the binding stays for those who add to it.
    ("system:node", &[]),
    ("knarr:local-provisioner", &[Group("system:nodes")]),
    ("knarr:node-proxier", &[Group("system:nodes")]),
    // How machines become nodes and stay it: ask, be granted, and renew what was granted.
    ("system:node-bootstrapper", &[Group(NODE_GROUP)]),
    ("system:certificates.k8s.io:certificatesigningrequests:nodeclient", &[Group(NODE_GROUP)]),
    ("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", &[Group("system:nodes")]),
];

/// Namespace, name, rules, subjects (none: no binding).
const ROLES: &[(&str, &str, &[Row], &[Subject])] = &[
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        &[rule(READ, "core", "configmaps"), named("update", "core", "configmaps", "cluster-info"), EVENTS],
        &[Account("bootstrap-signer")],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        &[rule(READ, "core", "secrets")],
        &[Account("bootstrap-signer")],
    ),
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
        &[named(READ, "core", "configmaps", "extension-apiserver-authentication")],
        &[User("system:kube-controller-manager"), User("system:kube-scheduler")],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        &[rule("create get list update watch", "coordination.k8s.io", "leases leasecandidates")],
        &[User("system:kube-controller-manager"), Account("kube-controller-manager")],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        &[rule("create get list update watch", "coordination.k8s.io", "leases leasecandidates")],
        &[User("system:kube-scheduler"), Account("kube-scheduler")],
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        &[rule("create get list watch", "core", "configmaps")],
        &[Account("cloud-provider")],
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        &[rule("delete get list watch", "core", "secrets"), EVENTS],
        &[Account("token-cleaner")],
    ),
];

impl Subject {
    fn to_value(&self) -> Value {
        match self {
            User(name) => json!({ "apiGroup": GROUP, "kind": "User", "name": name }),
            Group(name) => json!({ "apiGroup": GROUP, "kind": "Group", "name": name }),
            Account(name) => json!({ "kind": "ServiceAccount", "name": name, "namespace": "kube-system" }),
        }
    }
}

fn binding(kind: &str, role_kind: &str, role: &str, subjects: &[Subject]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": default_metadata(role, &[]),
        "roleRef": { "apiGroup": GROUP, "kind": role_kind, "name": role },
        "subjects": subjects.iter().map(Subject::to_value).collect::<Vec<_>>(),
    })
}

pub(super) fn cluster_role_bindings() -> Vec<Value> {
    let cluster = CLUSTER_BINDINGS.iter().map(|(role, to)| binding("ClusterRoleBinding", "ClusterRole", role, to));
    let controllers = CONTROLLER_ROLES.iter().filter_map(|(role, _)| {
        let account = role.strip_prefix(PREFIX)?;
        Some(binding("ClusterRoleBinding", "ClusterRole", role, &[Account(account)]))
    });
    cluster.chain(controllers).collect()
}

/// Roles and their bindings in the system namespaces.
pub(super) fn namespaced() -> (Vec<Value>, Vec<Value>) {
    let place = |mut object: Value, namespace: &str| {
        object["metadata"]["namespace"] = namespace.into();
        object
    };
    let roles = ROLES.iter().map(|(namespace, name, rows, _)| {
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": default_metadata(name, &[]),
            "rules": rules(rows),
        });
        place(role, namespace)
    });
    let bindings = ROLES
        .iter()
        .map(|(namespace, name, _, subjects)| place(binding("RoleBinding", "Role", name, subjects), namespace));
    (roles.collect(), bindings.collect())
}
