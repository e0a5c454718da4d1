//! Where a zero says something. Go writes every field that is no pointer, so that most zeros mean "not set"; the
//! scalars listed here are pointers in upstream's types, and a zero that was written is one that was meant.

/// Struct and its pointer scalars.
const POINTERS: &[(&str, &str)] = &[
    ("MutatingWebhook", "timeoutSeconds"),
    ("ValidatingWebhook", "timeoutSeconds"),
    ("ServiceReference", "port"),
    ("DaemonSetSpec", "revisionHistoryLimit"),
    ("DeploymentSpec", "replicas revisionHistoryLimit progressDeadlineSeconds"),
    ("ReplicaSetSpec", "replicas"),
    ("ReplicationControllerSpec", "replicas"),
    ("RollingUpdateStatefulSetStrategy", "partition"),
    ("StatefulSetSpec", "replicas revisionHistoryLimit"),
    ("TokenRequestSpec", "expirationSeconds"),
    ("HorizontalPodAutoscalerSpec", "minReplicas targetCPUUtilizationPercentage"),
    ("HorizontalPodAutoscalerStatus", "observedGeneration currentCPUUtilizationPercentage"),
    ("HPAScalingRules", "stabilizationWindowSeconds"),
    ("MetricTarget", "averageUtilization"),
    ("MetricValueStatus", "averageUtilization"),
    // No pointer, but scaling to zero is asked for through it.
    ("ScaleSpec", "replicas"),
    ("CronJobSpec", "startingDeadlineSeconds suspend successfulJobsHistoryLimit failedJobsHistoryLimit"),
    (
        "JobSpec",
        "parallelism completions activeDeadlineSeconds backoffLimit backoffLimitPerIndex maxFailedIndexes \
         manualSelector ttlSecondsAfterFinished suspend",
    ),
    ("JobStatus", "ready terminating"),
    ("SuccessPolicyRule", "succeededCount"),
    ("CertificateSigningRequestSpec", "expirationSeconds"),
    ("LeaseSpec", "leaseDurationSeconds leaseTransitions"),
    ("AzureDiskVolumeSource", "readOnly"),
    ("ClientIPConfig", "timeoutSeconds"),
    ("ClusterTrustBundleProjection", "optional"),
    ("ConfigMap", "immutable"),
    ("Secret", "immutable"),
    ("ConfigMapEnvSource", "optional"),
    ("ConfigMapKeySelector", "optional"),
    ("ConfigMapProjection", "optional"),
    ("ConfigMapVolumeSource", "defaultMode optional"),
    ("SecretEnvSource", "optional"),
    ("SecretKeySelector", "optional"),
    ("SecretProjection", "optional"),
    ("SecretVolumeSource", "defaultMode optional"),
    ("FileKeySelector", "optional"),
    ("DownwardAPIVolumeFile", "mode"),
    ("DownwardAPIVolumeSource", "defaultMode"),
    ("ProjectedVolumeSource", "defaultMode"),
    ("KeyToPath", "mode"),
    ("CSIVolumeSource", "readOnly"),
    ("FCVolumeSource", "lun"),
    ("PersistentVolumeClaimSpec", "storageClassName volumeAttributesClassName"),
    ("PodCertificateProjection", "maxExpirationSeconds"),
    ("PodLogOptions", "sinceSeconds tailLines limitBytes"),
    ("PodSecurityContext", "runAsUser runAsGroup runAsNonRoot fsGroup"),
    ("SecurityContext", "privileged runAsUser runAsGroup runAsNonRoot readOnlyRootFilesystem allowPrivilegeEscalation"),
    ("WindowsSecurityContextOptions", "hostProcess"),
    (
        "PodSpec",
        "terminationGracePeriodSeconds activeDeadlineSeconds automountServiceAccountToken shareProcessNamespace \
         priority enableServiceLinks setHostnameAsFQDN hostUsers",
    ),
    ("Probe", "terminationGracePeriodSeconds"),
    ("ContainerStatus", "started"),
    ("ServiceAccount", "automountServiceAccountToken"),
    ("ServiceAccountTokenProjection", "expirationSeconds"),
    ("ServiceSpec", "allocateLoadBalancerNodePorts"),
    ("Toleration", "tolerationSeconds"),
    ("TopologySpreadConstraint", "minDomains"),
    ("NodeFeatures", "supplementalGroupsPolicy"),
    ("NodeRuntimeHandlerFeatures", "recursiveReadOnlyMounts userNamespaces"),
    ("EndpointConditions", "ready serving terminating"),
    ("EndpointPort", "port"),
    ("ExemptPriorityLevelConfiguration", "nominalConcurrencyShares lendablePercent"),
    ("LimitedPriorityLevelConfiguration", "nominalConcurrencyShares lendablePercent borrowingLimitPercent"),
    ("NetworkPolicyPort", "endPort"),
    ("Device", "allNodes bindsToNode allowMultipleAllocations"),
    ("DeviceAttribute", "int bool string version"),
    ("DeviceRequestAllocationResult", "adminAccess"),
    ("DeviceToleration", "tolerationSeconds"),
    ("ExactDeviceRequest", "adminAccess"),
    ("ResourceSliceSpec", "allNodes perDeviceNodeSelection"),
    (
        "CSIDriverSpec",
        "attachRequired podInfoOnMount storageCapacity requiresRepublish seLinuxMount \
         nodeAllocatableUpdatePeriodSeconds serviceAccountTokenInSecrets",
    ),
    ("StorageClass", "allowVolumeExpansion"),
    ("TokenRequest", "expirationSeconds"),
    ("VolumeError", "errorCode"),
    ("VolumeNodeResources", "count"),
    (
        "JSONSchemaProps",
        "maximum minimum maxLength minLength maxItems minItems multipleOf maxProperties minProperties \
         x-kubernetes-preserve-unknown-fields",
    ),
    ("ValidationRule", "optionalOldSelf"),
    ("DeleteOptions", "gracePeriodSeconds orphanDependents ignoreStoreReadErrorWithClusterBreakingPotential"),
    ("ObjectMeta", "deletionGracePeriodSeconds"),
    ("OwnerReference", "controller blockOwnerDeletion"),
    ("DeploymentStatus", "collisionCount terminatingReplicas"),
    ("ReplicaSetStatus", "terminatingReplicas"),
    ("DaemonSetStatus", "collisionCount"),
    ("StatefulSetStatus", "collisionCount"),
];

/// `definition` ends with the struct's name, as `io.k8s.api.core.v1.PodSpec`.
pub(super) fn is_pointer(definition: &str, property: &str) -> bool {
    let name = definition.rsplit('.').next().unwrap_or_default();
    POINTERS.iter().any(|(owner, properties)| {
        owner.eq_ignore_ascii_case(name) && properties.split_whitespace().any(|p| p == property)
    })
}

#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    POINTERS.iter().flat_map(|(owner, properties)| properties.split_whitespace().map(move |p| (*owner, p)))
}
