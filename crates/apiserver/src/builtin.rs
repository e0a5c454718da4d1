//! Short names for the built-in resources that the server itself deals with.

use std::sync::LazyLock;

use knarr_api::registry::{Resource, by_plural};

macro_rules! builtins {
    ($($name:ident: $group:literal, $version:literal, $plural:literal;)*) => {
        $(
            pub fn $name() -> &'static Resource {
                static FOUND: LazyLock<&'static Resource> = LazyLock::new(|| find($group, $version, $plural));
                *FOUND
            }
        )*

        #[cfg(test)]
        const ALL: &[(&str, &str, &str)] = &[$(($group, $version, $plural)),*];
    };
}

fn find(group: &str, version: &str, plural: &str) -> &'static Resource {
    // The registry is made at build time and a test looks each of these up, so this cannot happen in a release.
    by_plural(group, version, plural).unwrap_or_else(|| panic!("{plural}.{version}.{group} is not a built-in resource"))
}

builtins! {
    config_maps: "", "v1", "configmaps";
    endpoints: "", "v1", "endpoints";
    events: "", "v1", "events";
    limit_ranges: "", "v1", "limitranges";
    namespaces: "", "v1", "namespaces";
    nodes: "", "v1", "nodes";
    persistent_volume_claims: "", "v1", "persistentvolumeclaims";
    persistent_volumes: "", "v1", "persistentvolumes";
    pods: "", "v1", "pods";
    resource_quotas: "", "v1", "resourcequotas";
    secrets: "", "v1", "secrets";
    service_accounts: "", "v1", "serviceaccounts";
    services: "", "v1", "services";
    replication_controllers: "", "v1", "replicationcontrollers";
    custom_resource_definitions: "apiextensions.k8s.io", "v1", "customresourcedefinitions";
    certificate_signing_requests: "certificates.k8s.io", "v1", "certificatesigningrequests";
    cluster_roles: "rbac.authorization.k8s.io", "v1", "clusterroles";
    cluster_role_bindings: "rbac.authorization.k8s.io", "v1", "clusterrolebindings";
    roles: "rbac.authorization.k8s.io", "v1", "roles";
    api_services: "apiregistration.k8s.io", "v1", "apiservices";
    role_bindings: "rbac.authorization.k8s.io", "v1", "rolebindings";
    endpoint_slices: "discovery.k8s.io", "v1", "endpointslices";
    flow_schemas: "flowcontrol.apiserver.k8s.io", "v1", "flowschemas";
    priority_levels: "flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations";
    mutating_webhook_configurations: "admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations";
    validating_webhook_configurations: "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations";
    mutating_admission_policies: "admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies";
    mutating_admission_policy_bindings: "admissionregistration.k8s.io", "v1", "mutatingadmissionpolicybindings";
    validating_admission_policies: "admissionregistration.k8s.io", "v1", "validatingadmissionpolicies";
    validating_admission_policy_bindings: "admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings";
    ingress_classes: "networking.k8s.io", "v1", "ingressclasses";
    ip_addresses: "networking.k8s.io", "v1", "ipaddresses";
    ingresses: "networking.k8s.io", "v1", "ingresses";
    pod_disruption_budgets: "policy", "v1", "poddisruptionbudgets";
    priority_classes: "scheduling.k8s.io", "v1", "priorityclasses";
    runtime_classes: "node.k8s.io", "v1", "runtimeclasses";
    service_cidrs: "networking.k8s.io", "v1", "servicecidrs";
    storage_classes: "storage.k8s.io", "v1", "storageclasses";
    volume_attachments: "storage.k8s.io", "v1", "volumeattachments";
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_of_them_are_in_the_registry() {
        for (group, version, plural) in super::ALL {
            let found = super::find(group, version, plural);
            assert_eq!((found.group, found.version, found.plural), (*group, *version, *plural));
        }
    }
}
