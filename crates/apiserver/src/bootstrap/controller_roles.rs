//! One role for each controller. The controller runs as the service account in `kube-system` whose name is what
//! follows `system:controller:`.

use super::policy::{EVENTS, READ, RoleRow, named, rule};

pub(super) const PREFIX: &str = "system:controller:";

pub(super) const CONTROLLER_ROLES: &[RoleRow] = &[
    (
        "system:controller:attachdetach-controller",
        &[
            rule("list watch", "core", "persistentvolumes persistentvolumeclaims pods"),
            rule(READ, "core", "nodes"),
            rule("patch update", "core", "nodes/status"),
            EVENTS,
            rule("create delete get list watch", "storage.k8s.io", "volumeattachments"),
            rule(READ, "storage.k8s.io", "csidrivers csinodes"),
        ],
    ),
    (
        "system:controller:clusterrole-aggregation-controller",
        // Whoever writes what others may do must be able to do anything to roles.
        &[rule("escalate get list patch update watch", "rbac.authorization.k8s.io", "clusterroles")],
    ),
    ("system:controller:control-plane-controller", &[rule("get list patch watch", "core", "nodes")]),
    (
        "system:controller:cronjob-controller",
        &[
            rule("get list update watch", "batch", "cronjobs"),
            rule("create delete get list patch update watch", "batch", "jobs"),
            rule("patch update", "batch", "cronjobs/status"),
            rule("update", "batch", "cronjobs/finalizers"),
            rule("delete list watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "system:controller:daemon-set-controller",
        &[
            rule(READ, "apps extensions", "daemonsets"),
            rule("patch update", "apps extensions", "daemonsets/status"),
            rule("update", "apps extensions", "daemonsets/finalizers"),
            rule("list watch", "core", "nodes"),
            rule("create delete list patch watch", "core", "pods"),
            rule("create", "core", "pods/binding"),
            rule("create delete get list patch update watch", "apps", "controllerrevisions"),
            EVENTS,
        ],
    ),
    (
        "system:controller:deployment-controller",
        &[
            rule("get list patch update watch", "apps extensions", "deployments"),
            rule("patch update", "apps extensions", "deployments/status"),
            rule("update", "apps extensions", "deployments/finalizers"),
            rule("create delete get list patch update watch", "apps extensions", "replicasets"),
            rule("get list update watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "system:controller:disruption-controller",
        &[
            rule(READ, "apps extensions", "deployments replicasets"),
            rule(READ, "core", "pods replicationcontrollers"),
            rule(READ, "policy", "poddisruptionbudgets"),
            rule(READ, "apps", "statefulsets"),
            rule("patch update", "policy", "poddisruptionbudgets/status"),
            rule("patch update", "core", "pods/status"),
            rule("get", "*", "*/scale"),
            EVENTS,
        ],
    ),
    (
        "system:controller:endpoint-controller",
        &[
            rule(READ, "core", "services pods"),
            rule("create delete get list patch update watch", "core", "endpoints"),
            rule("create", "core", "endpoints/restricted"),
            EVENTS,
        ],
    ),
    (
        "system:controller:endpointslice-controller",
        &[
            rule(READ, "core", "services pods nodes"),
            // An EndpointSlice's owner reference blocks the Service's deletion.
            rule("update", "core", "services/finalizers"),
            rule("create delete get list patch update watch", "discovery.k8s.io", "endpointslices"),
            EVENTS,
        ],
    ),
    (
        "system:controller:endpointslicemirroring-controller",
        &[
            rule(READ, "core", "services endpoints"),
            rule("update", "core", "services/finalizers endpoints/finalizers"),
            rule("create delete get list patch update watch", "discovery.k8s.io", "endpointslices"),
            EVENTS,
        ],
    ),
    (
        "system:controller:expand-controller",
        &[
            rule("get list patch update watch", "core", "persistentvolumes"),
            rule("patch update", "core", "persistentvolumeclaims/status"),
            rule(READ, "core", "persistentvolumeclaims"),
            rule("get", "core", "services"),
            EVENTS,
        ],
    ),
    (
        "system:controller:ephemeral-volume-controller",
        &[
            rule(READ, "core", "pods"),
            rule("update", "core", "pods/finalizers"),
            rule("create get list watch", "core", "persistentvolumeclaims"),
            EVENTS,
        ],
    ),
    (
        "system:controller:resource-claim-controller",
        &[
            rule(READ, "core", "pods"),
            rule("update", "core", "pods/finalizers"),
            rule("create delete get list watch", "resource.k8s.io", "resourceclaims"),
            rule(READ, "resource.k8s.io", "resourceclaimtemplates"),
            rule("patch update", "resource.k8s.io", "resourceclaims resourceclaims/status"),
            rule("patch update", "core", "pods/status"),
            EVENTS,
        ],
    ),
    ("system:controller:generic-garbage-collector", &[rule("delete get list patch update watch", "*", "*"), EVENTS]),
    (
        "system:controller:horizontal-pod-autoscaler",
        &[
            rule(READ, "autoscaling", "horizontalpodautoscalers"),
            rule("patch update", "autoscaling", "horizontalpodautoscalers/status"),
            rule("get update", "*", "*/scale"),
            rule("list watch", "core", "pods"),
            rule("list watch", "metrics.k8s.io", "pods"),
            rule(READ, "custom.metrics.k8s.io external.metrics.k8s.io", "*"),
            EVENTS,
        ],
    ),
    (
        "system:controller:ingress-controller",
        &[
            rule(READ, "networking.k8s.io", "ingresses"),
            rule("create get list watch", "networking.k8s.io", "ingressclasses"),
            rule("patch update", "networking.k8s.io", "ingresses/status"),
            rule(READ, "core", "nodes"),
        ],
    ),
    (
        "system:controller:job-controller",
        &[
            rule("get list patch update watch", "batch", "jobs"),
            rule("patch update", "batch", "jobs/status"),
            rule("update", "batch", "jobs/finalizers"),
            rule("create delete list patch watch", "core", "pods"),
            EVENTS,
        ],
    ),
    ("system:controller:metrics-server", &[rule("get", "core", "nodes/proxy"), rule(READ, "core", "nodes pods")]),
    (
        "system:controller:namespace-controller",
        &[
            rule("delete get list watch", "core", "namespaces"),
            rule("patch update", "core", "namespaces/finalize namespaces/status"),
            rule("delete deletecollection get list watch", "*", "*"),
        ],
    ),
    (
        "system:controller:node-controller",
        &[
            rule("delete get list patch update watch", "core", "nodes"),
            rule("patch update", "core", "nodes/status"),
            rule("patch update", "core", "pods/status"),
            rule("delete get list watch", "core", "pods"),
            rule("delete get list watch", "coordination.k8s.io", "leases"),
            EVENTS,
        ],
    ),
    (
        // Each node's range for its pods; upstream has it under the rights of `node-controller`.
        "system:controller:node-ipam-controller",
        &[rule(READ, "core", "nodes"), rule("patch", "core", "nodes"), EVENTS],
    ),
    (
        "system:controller:persistent-volume-binder",
        &[
            rule("create delete get list patch update watch", "core", "persistentvolumes"),
            rule("patch update", "core", "persistentvolumes/status persistentvolumeclaims/status"),
            rule("get list patch update watch", "core", "persistentvolumeclaims"),
            rule("create delete get list watch", "core", "pods"),
            rule(READ, "storage.k8s.io", "storageclasses"),
            rule("list watch", "core", "nodes"),
            rule("watch", "core", "events"),
            rule("get", "core", "services"),
            EVENTS,
        ],
    ),
    (
        "system:controller:pod-garbage-collector",
        &[rule("delete list watch", "core", "pods"), rule(READ, "core", "nodes"), rule("patch", "core", "pods/status")],
    ),
    (
        "system:controller:replicaset-controller",
        &[
            rule("get list patch update watch", "apps extensions", "replicasets"),
            rule("patch update", "apps extensions", "replicasets/status"),
            rule("update", "apps extensions", "replicasets/finalizers"),
            rule("create delete list patch watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "system:controller:replication-controller",
        &[
            rule("get list update watch", "core", "replicationcontrollers"),
            rule("patch update", "core", "replicationcontrollers/status"),
            rule("update", "core", "replicationcontrollers/finalizers"),
            rule("create delete list patch watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "system:controller:resourcequota-controller",
        &[rule("list watch", "*", "*"), rule("patch update", "core", "resourcequotas/status"), EVENTS],
    ),
    (
        "system:controller:route-controller",
        &[rule("list watch", "core", "nodes"), rule("patch", "core", "nodes/status"), EVENTS],
    ),
    ("system:controller:service-account-controller", &[rule("create", "core", "serviceaccounts"), EVENTS]),
    (
        "system:controller:service-controller",
        &[
            rule(READ, "core", "services"),
            rule("patch update", "core", "services services/status"),
            rule("list watch", "core", "nodes"),
            EVENTS,
        ],
    ),
    (
        // Knarr's own load balancer: nodes answer for Services' external addresses.
        "system:controller:service-lb-controller",
        &[
            rule(READ, "core", "services nodes"),
            rule(READ, "discovery.k8s.io", "endpointslices"),
            rule("patch update", "core", "services/status"),
            EVENTS,
        ],
    ),
    (
        "system:controller:service-cidrs-controller",
        &[
            rule("get list patch update watch", "networking.k8s.io", "servicecidrs"),
            rule("patch update", "networking.k8s.io", "servicecidrs/finalizers servicecidrs/status"),
            rule(READ, "networking.k8s.io", "ipaddresses"),
            EVENTS,
        ],
    ),
    (
        // Upstream's API server does this itself.
        "system:controller:kubernetes-service-cidr-controller",
        &[
            rule("create get list watch", "networking.k8s.io", "servicecidrs"),
            rule("patch update", "networking.k8s.io", "servicecidrs/status"),
            EVENTS,
        ],
    ),
    (
        // This, too.
        "system:controller:ipallocator-repair-controller",
        &[
            rule(READ, "core", "services"),
            rule(READ, "networking.k8s.io", "servicecidrs"),
            rule("create delete get list watch", "networking.k8s.io", "ipaddresses"),
            EVENTS,
        ],
    ),
    (
        "system:controller:statefulset-controller",
        &[
            rule("list watch", "core", "pods"),
            rule(READ, "apps", "statefulsets"),
            rule("patch update", "apps", "statefulsets/status"),
            rule("update", "apps", "statefulsets/finalizers"),
            rule("create delete get patch update", "core", "pods"),
            rule("create delete get list patch update watch", "apps", "controllerrevisions"),
            rule("create delete get list update watch", "core", "persistentvolumeclaims"),
            rule("update", "core", "pods/finalizers"),
            EVENTS,
        ],
    ),
    ("system:controller:ttl-controller", &[rule("list patch update watch", "core", "nodes"), EVENTS]),
    (
        "system:controller:certificate-controller",
        &[
            rule("delete get list watch", "certificates.k8s.io", "certificatesigningrequests"),
            rule(
                "update",
                "certificates.k8s.io",
                "certificatesigningrequests/approval certificatesigningrequests/status",
            ),
            named(
                "approve",
                "certificates.k8s.io",
                "signers",
                "kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving",
            ),
            rule(READ, "core", "nodes"),
            named(
                "sign",
                "certificates.k8s.io",
                "signers",
                "kubernetes.io/legacy-unknown kubernetes.io/kube-apiserver-client \
                 kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving",
            ),
            rule("create", "authorization.k8s.io", "subjectaccessreviews"),
            EVENTS,
        ],
    ),
    (
        "system:controller:kube-apiserver-serving-clustertrustbundle-publisher",
        &[
            named("attest", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-serving"),
            rule("create delete list update watch", "certificates.k8s.io", "clustertrustbundles"),
            EVENTS,
        ],
    ),
    (
        "system:controller:pvc-protection-controller",
        &[rule("get list update watch", "core", "persistentvolumeclaims"), rule(READ, "core", "pods"), EVENTS],
    ),
    (
        "system:controller:pv-protection-controller",
        &[rule("get list update watch", "core", "persistentvolumes"), EVENTS],
    ),
    (
        "system:controller:volumeattributesclass-protection-controller",
        &[
            rule(READ, "core", "persistentvolumeclaims persistentvolumes"),
            rule("get list update watch", "storage.k8s.io", "volumeattributesclasses"),
            EVENTS,
        ],
    ),
    ("system:controller:ttl-after-finished-controller", &[rule("delete get list watch", "batch", "jobs"), EVENTS]),
    ("system:controller:root-ca-cert-publisher", &[rule("create patch update", "core", "configmaps"), EVENTS]),
    (
        "system:controller:validatingadmissionpolicy-status-controller",
        &[
            rule(READ, "admissionregistration.k8s.io", "validatingadmissionpolicies"),
            rule("get patch update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status"),
            EVENTS,
        ],
    ),
    (
        "system:controller:legacy-service-account-token-cleaner",
        &[
            named("get", "core", "configmaps", "kube-apiserver-legacy-service-account-token-tracking"),
            rule("delete patch", "core", "secrets"),
        ],
    ),
    (
        "system:controller:selinux-warning-controller",
        &[
            EVENTS,
            rule(READ, "core", "persistentvolumes persistentvolumeclaims pods"),
            rule(READ, "storage.k8s.io", "csidrivers"),
        ],
    ),
];
