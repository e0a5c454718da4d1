//! What differs between resources on their way into the store. Everything else is the generic path's.
//!
//! A resource's rules are one constant of the type [`rules::Rules`] in the file of its group; what it leaves out is
//! what most resources want.

mod admission;
mod apps;
mod autoscaling;
pub mod batch;
mod certificates;
mod check;
pub mod convert;
mod core;
mod csi;
mod defaults;
mod definition;
mod devices;
mod discovery;
mod event;
mod extension;
pub mod flow;
mod networking;
pub mod pod;
mod policy;
mod quota;
mod rbac;
mod rules;
pub mod scale;
mod secret;
mod service;
mod storage;
#[cfg(test)]
mod tests;
mod trust_bundle;
mod webhooks;

use std::borrow::Cow;

use serde_json::Value;

use crate::{field::FieldError, meta::NameRule, registry::Resource};

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The object itself: everything but what its subresources own (`status` above all).
    Main,
    /// A subresource that has the object's own shape, such as `status`, `resize` or `ephemeralcontainers`.
    Subresource(&'static str),
}

/// What a deletion does with the objects that the deleted one owns.
/// (<https://kubernetes.io/docs/concepts/architecture/garbage-collection/>)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependents {
    /// The garbage collector deletes them, unless the client wants otherwise.
    Deleted,
    /// They stay behind without an owner, unless the client wants otherwise: what the oldest clients rely on.
    Orphaned,
    /// There are none, whatever the client wants: the garbage collector does not look at the resource.
    Never,
}

/// The rules of one resource. Each method is pure; the default bodies are what most resources want.
///
/// Order on create: name and uid are set, `default`, `prepare_create`, (admission), `validate_create`.
/// Order on update: `default`, `prepare_update`, (admission), `validate_update`.
pub trait Strategy: Send + Sync {
    /// The syntax of the resource's names, for [`crate::meta::validate_create`].
    fn name_rule(&self) -> NameRule {
        NameRule::Subdomain
    }

    /// Fills in the documented defaults. Running it twice changes nothing.
    fn default(&self, _object: &mut Value) {}

    /// Drops what a client may not set (`status` where the resource has that subresource) and sets what the
    /// server owns (`metadata.generation`, a pod's `status.qosClass`).
    fn prepare_create(&self, object: &mut Value);

    /// Keeps from `old` what this write may not change (identity in `metadata` included), and bumps
    /// `metadata.generation` where the wished-for state differs.
    fn prepare_update(&self, new: &mut Value, old: &Value, part: Part);

    /// All that is wrong with a new object, in upstream's words; object metadata is checked by the caller.
    fn validate_create(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// All that is wrong with a change, immutable fields included.
    fn validate_update(&self, _new: &Value, _old: &Value, _part: Part) -> Vec<FieldError> {
        Vec::new()
    }

    /// Texts for `Warning` headers (deprecated fields, duplicate keys).
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// The fields that field selectors may name, beside `metadata.name` and `metadata.namespace`.
    fn selectable_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// The value of one of [`Strategy::selectable_fields`]; empty where the object has none.
    fn field<'a>(&self, _object: &'a Value, _field: &str) -> Cow<'a, str> {
        Cow::Borrowed("")
    }

    /// How long a deletion waits by default; `None` where the resource is deleted at once. For a pod:
    /// `spec.terminationGracePeriodSeconds`, and 0 where it was never scheduled or has ended.
    fn deletion_grace_seconds(&self, _object: &Value) -> Option<i64> {
        None
    }

    /// As `deletion_grace_seconds`, where the client asked for a time of its own (`gracePeriodSeconds`).
    fn deletion_grace(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        let default = self.deletion_grace_seconds(object)?;
        Some(requested.unwrap_or(default))
    }

    /// What becomes of an object's dependents when it is deleted and nobody says.
    fn dependents(&self) -> Dependents {
        Dependents::Deleted
    }

    /// True where PUT to a name that does not exist creates it (Lease, Event, ...), as upstream documents.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// True where PUT without a resourceVersion is let through.
    fn allow_unconditional_update(&self) -> bool {
        true
    }
}

/// The rules of a row of the registry.
pub fn of(resource: &Resource) -> &'static dyn Strategy {
    rules_of(resource.group, resource.kind)
}

/// The name that the stored form has for a field of a selector (see [`convert`]); mostly the same.
pub fn stored_field<'a>(resource: &Resource, field: &'a str) -> &'a str {
    match (resource.group, resource.kind) {
        ("events.k8s.io", "Event") => event::core_field(field).unwrap_or(field),
        // What the oldest clients say.
        ("", "Pod") if field == "spec.host" => "spec.nodeName",
        _ => field,
    }
}

/// What a client is told in a `Warning` header when it uses a resource that upstream has deprecated.
pub fn deprecation(resource: &Resource) -> Option<&'static str> {
    match (resource.group, resource.kind) {
        ("", "ComponentStatus") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        ("", "Endpoints") => Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        _ => None,
    }
}

/// What a client is told in a `Warning` header when it writes an object that is kept, and that nobody in this cluster acts
/// on: whoever writes one must not believe that it does anything.
pub fn unfollowed(resource: &Resource) -> Option<&'static str> {
    match (resource.group, resource.kind) {
        ("networking.k8s.io", "NetworkPolicy") => {
            Some("this cluster does not enforce network policies: whoever could reach a pod still can")
        }
        ("storage.k8s.io", "VolumeAttributesClass") => {
            Some("only the controllers of CSI drivers act on this: volumes of knarr.dev/local have no attributes")
        }
        _ => None,
    }
}

/// What a client is told in a `Warning` header when it deletes an object without saying what becomes of its dependents.
pub fn deletion_warning(resource: &Resource) -> Option<&'static str> {
    match (resource.group, resource.kind) {
        ("batch", "Job") => Some(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them \
             or set propagationPolicy=Orphan to suppress this warning",
        ),
        _ => None,
    }
}

/// The rules of a built-in kind. A kind without rules of its own is plain data; one that is served in several forms
/// has the rules of the form it is stored in (see [`convert`]).
pub fn of_kind(group: &str, kind: &str) -> &'static dyn Strategy {
    rules_of(group, kind)
}

fn rules_of(group: &str, kind: &str) -> &'static rules::Rules {
    match (group, kind) {
        ("", "ConfigMap") => &core::CONFIG_MAP,
        ("", "Endpoints") => &core::ENDPOINTS,
        ("" | "events.k8s.io", "Event") => &event::EVENT,
        ("", "LimitRange") => &core::LIMIT_RANGE,
        ("", "Namespace") => &core::NAMESPACE,
        ("", "Node") => &core::NODE,
        ("", "PersistentVolume") => &storage::PERSISTENT_VOLUME,
        ("", "PersistentVolumeClaim") => &storage::PERSISTENT_VOLUME_CLAIM,
        ("", "Pod") => &pod::POD,
        ("", "PodTemplate") => &pod::POD_TEMPLATE,
        ("", "ReplicationController") => &apps::REPLICATION_CONTROLLER,
        ("", "ResourceQuota") => &core::RESOURCE_QUOTA,
        ("", "Secret") => &secret::SECRET,
        ("", "Service") => &service::SERVICE,
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => &admission::MUTATING_POLICY,
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding") => &admission::MUTATING_BINDING,
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration") => &webhooks::MUTATING,
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => &admission::VALIDATING_POLICY,
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding") => &admission::VALIDATING_BINDING,
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration") => &webhooks::VALIDATING,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => &definition::CUSTOM_RESOURCE_DEFINITION,
        ("apiregistration.k8s.io", "APIService") => &extension::API_SERVICE,
        ("apps", "ControllerRevision") => &apps::CONTROLLER_REVISION,
        ("apps", "DaemonSet") => &apps::DAEMON_SET,
        ("apps", "Deployment") => &apps::DEPLOYMENT,
        ("apps", "ReplicaSet") => &apps::REPLICA_SET,
        ("apps", "StatefulSet") => &apps::STATEFUL_SET,
        ("autoscaling", "HorizontalPodAutoscaler") => &autoscaling::HORIZONTAL_POD_AUTOSCALER,
        ("batch", "CronJob") => &batch::CRON_JOB,
        ("batch", "Job") => &batch::JOB,
        ("certificates.k8s.io", "CertificateSigningRequest") => &certificates::CERTIFICATE_SIGNING_REQUEST,
        ("certificates.k8s.io", "ClusterTrustBundle") => &trust_bundle::CLUSTER_TRUST_BUNDLE,
        ("coordination.k8s.io", "Lease") => &discovery::LEASE,
        ("discovery.k8s.io", "EndpointSlice") => &discovery::ENDPOINT_SLICE,
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => &flow::FLOW_SCHEMA,
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => &flow::PRIORITY_LEVEL,
        ("networking.k8s.io", "Ingress") => &networking::INGRESS,
        ("networking.k8s.io", "IngressClass") => &networking::INGRESS_CLASS,
        ("networking.k8s.io", "IPAddress") => &networking::IP_ADDRESS,
        ("networking.k8s.io", "NetworkPolicy") => &networking::NETWORK_POLICY,
        ("networking.k8s.io", "ServiceCIDR") => &networking::SERVICE_CIDR,
        ("node.k8s.io", "RuntimeClass") => &policy::RUNTIME_CLASS,
        ("policy", "PodDisruptionBudget") => &policy::POD_DISRUPTION_BUDGET,
        ("rbac.authorization.k8s.io", "ClusterRole") => &rbac::CLUSTER_ROLE,
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => &rbac::CLUSTER_ROLE_BINDING,
        ("rbac.authorization.k8s.io", "Role") => &rbac::ROLE,
        ("rbac.authorization.k8s.io", "RoleBinding") => &rbac::ROLE_BINDING,
        ("resource.k8s.io", "DeviceClass") => &devices::DEVICE_CLASS,
        ("resource.k8s.io", "ResourceClaim") => &devices::RESOURCE_CLAIM,
        ("resource.k8s.io", "ResourceClaimTemplate") => &devices::RESOURCE_CLAIM_TEMPLATE,
        ("resource.k8s.io", "ResourceSlice") => &devices::RESOURCE_SLICE,
        ("scheduling.k8s.io", "PriorityClass") => &policy::PRIORITY_CLASS,
        ("storage.k8s.io", "CSIDriver") => &csi::CSI_DRIVER,
        ("storage.k8s.io", "CSINode") => &csi::CSI_NODE,
        ("storage.k8s.io", "CSIStorageCapacity") => &csi::CSI_STORAGE_CAPACITY,
        ("storage.k8s.io", "StorageClass") => &storage::STORAGE_CLASS,
        ("storage.k8s.io", "VolumeAttachment") => &csi::VOLUME_ATTACHMENT,
        ("storage.k8s.io", "VolumeAttributesClass") => &storage::VOLUME_ATTRIBUTES_CLASS,
        _ => &rules::Rules::DATA,
    }
}

/// The rules of a custom resource, whose validation is its schema's.
pub fn custom(has_status: bool) -> &'static dyn Strategy {
    static WITH_STATUS: rules::Rules =
        rules::Rules { generation: rules::Generation::Content, ..rules::Rules::WITH_STATUS };
    static PLAIN: rules::Rules = rules::Rules { generation: rules::Generation::Content, ..rules::Rules::DATA };
    if has_status { &WITH_STATUS } else { &PLAIN }
}
