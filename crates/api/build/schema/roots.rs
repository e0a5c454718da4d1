//! The kinds whose types are wanted; what they refer to comes along.

use k8s_openapi::schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

macro_rules! roots {
    ($($group:literal $version:literal $module:ident = $($path:ident)::+ { $($kind:ident)+ })+) => {
        $(use k8s_openapi::$($path)::+ as $module;)+

        /// Group, version, kind and definition of each root.
        pub fn kinds() -> Vec<(String, String, String, String)> {
            vec![$($((
                $group.to_owned(),
                $version.to_owned(),
                stringify!($kind).to_owned(),
                <$module::$kind as k8s_openapi::schemars::JsonSchema>::schema_name().into_owned(),
            ),)+)+]
        }

        fn add_all(generator: &mut SchemaGenerator) {
            $($(generator.subschema_for::<$module::$kind>();)+)+
        }
    };
}

roots! {
    "" "v1" core_v1 = api::core::v1 {
        Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume
        PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount
    }
    "admissionregistration.k8s.io" "v1" admissionregistration_v1 = api::admissionregistration::v1 {
        MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration
        ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration
    }
    "apiextensions.k8s.io" "v1" apiextensions_v1 = apiextensions_apiserver::pkg::apis::apiextensions::v1 {
        CustomResourceDefinition
    }
    "apiregistration.k8s.io" "v1" apiregistration_v1 = kube_aggregator::pkg::apis::apiregistration::v1 {
        APIService
    }
    "apps" "v1" apps_v1 = api::apps::v1 {
        ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet
    }
    "authentication.k8s.io" "v1" authentication_v1 = api::authentication::v1 {
        SelfSubjectReview TokenRequest TokenReview
    }
    "authorization.k8s.io" "v1" authorization_v1 = api::authorization::v1 {
        LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview
    }
    "autoscaling" "v1" autoscaling_v1 = api::autoscaling::v1 {
        HorizontalPodAutoscaler Scale
    }
    "autoscaling" "v2" autoscaling_v2 = api::autoscaling::v2 {
        HorizontalPodAutoscaler
    }
    "batch" "v1" batch_v1 = api::batch::v1 {
        CronJob Job
    }
    "certificates.k8s.io" "v1" certificates_v1 = api::certificates::v1 {
        CertificateSigningRequest
    }
    "certificates.k8s.io" "v1beta1" certificates_v1beta1 = api::certificates::v1beta1 {
        ClusterTrustBundle
    }
    "coordination.k8s.io" "v1" coordination_v1 = api::coordination::v1 {
        Lease
    }
    "discovery.k8s.io" "v1" discovery_v1 = api::discovery::v1 {
        EndpointSlice
    }
    "events.k8s.io" "v1" events_v1 = api::events::v1 {
        Event
    }
    "flowcontrol.apiserver.k8s.io" "v1" flowcontrol_v1 = api::flowcontrol::v1 {
        FlowSchema PriorityLevelConfiguration
    }
    "networking.k8s.io" "v1" networking_v1 = api::networking::v1 {
        IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR
    }
    "node.k8s.io" "v1" node_v1 = api::node::v1 {
        RuntimeClass
    }
    "policy" "v1" policy_v1 = api::policy::v1 {
        Eviction PodDisruptionBudget
    }
    "rbac.authorization.k8s.io" "v1" rbac_v1 = api::rbac::v1 {
        ClusterRole ClusterRoleBinding Role RoleBinding
    }
    "resource.k8s.io" "v1" resource_v1 = api::resource::v1 {
        DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice
    }
    "scheduling.k8s.io" "v1" scheduling_v1 = api::scheduling::v1 {
        PriorityClass
    }
    "storage.k8s.io" "v1" storage_v1 = api::storage::v1 {
        CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass
    }
    "" "v1" meta_v1 = apimachinery::pkg::apis::meta::v1 {
        APIGroup APIGroupList APIResourceList APIVersions DeleteOptions Status
    }
}

/// Every definition that the roots need, by its upstream name.
pub fn definitions() -> Map<String, Value> {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    add_all(&mut generator);
    generator.take_definitions(false)
}
