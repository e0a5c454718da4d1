//! The columns and cells of server-side tables (`as=Table`), as `kubectl get` shows them; the columns are those of
//! upstream's printers, so that scripts which cut them keep working.

mod access;
mod cluster;
mod custom;
mod extension;
mod format;
mod metrics;
mod network;
mod pods;
mod storage;
#[cfg(test)]
mod tests;
mod workloads;

use jiff::Timestamp;
use serde_json::{Value, json};

pub use custom::CustomPrinter;

use crate::registry::Resource;

/// One entry of a Table's `columnDefinitions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `boolean` or `date`.
    pub kind: &'static str,
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

impl Column {
    const fn text(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: "string", format: "", description, priority: 0 }
    }

    const fn number(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: "integer", format: "", description, priority: 0 }
    }

    const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }

    pub fn to_value(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format, "description": self.description,
            "priority": self.priority,
        })
    }
}

const NAME: Column = Column {
    format: "name",
    ..Column::text("Name", "Name must be unique within a namespace, or within the cluster for kinds without one.")
};
const AGE: Column = Column::text("Age", "How long ago the object was created.");
const CREATED_AT: Column =
    Column { kind: "date", ..Column::text("Created At", "When the object was created, in UTC.") };

/// The columns of one kind, and the cells of one object under them: all of them, wide ones included.
struct Printer {
    columns: &'static [Column],
    cells: fn(&Value, Timestamp) -> Vec<Value>,
}

/// What upstream shows for kinds without columns of their own.
static DEFAULT: Printer = Printer {
    columns: &[NAME, CREATED_AT],
    cells: |object, _| vec![format::name(object), object["metadata"]["creationTimestamp"].clone()],
};

pub fn columns(resource: &Resource) -> &'static [Column] {
    printer(resource).columns
}

/// The cells of one object in the order of [`columns`].
pub fn row(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    (printer(resource).cells)(object, now)
}

/// The columns of a Scale, which is no resource of its own.
pub fn scale_columns() -> &'static [Column] {
    workloads::SCALE.columns
}

/// The cells of a Scale in the order of [`scale_columns`].
pub fn scale_row(scale: &Value, now: Timestamp) -> Vec<Value> {
    (workloads::SCALE.cells)(scale, now)
}

/// `conditions` of a Table row: a pod that has ended is marked as completed, which `kubectl get --watch` honours.
pub fn row_conditions(resource: &Resource, object: &Value) -> Option<Value> {
    if resource.group.is_empty() && resource.kind == "Pod" { pods::conditions(object) } else { None }
}

fn printer(resource: &Resource) -> &'static Printer {
    match (resource.group, resource.kind) {
        ("", "ComponentStatus") => &cluster::COMPONENT_STATUS,
        ("", "ConfigMap") => &cluster::CONFIG_MAP,
        ("", "Endpoints") => &network::ENDPOINTS,
        ("" | "events.k8s.io", "Event") => &cluster::EVENT,
        ("", "Namespace") => &cluster::NAMESPACE,
        ("", "Node") => &cluster::NODE,
        ("", "PersistentVolume") => &storage::PERSISTENT_VOLUME,
        ("", "PersistentVolumeClaim") => &storage::PERSISTENT_VOLUME_CLAIM,
        ("", "Pod") => &pods::POD,
        ("", "PodTemplate") => &workloads::POD_TEMPLATE,
        ("", "ReplicationController") | ("apps", "ReplicaSet") => &workloads::REPLICA_SET,
        ("", "ResourceQuota") => &cluster::RESOURCE_QUOTA,
        ("", "Secret") => &cluster::SECRET,
        ("", "Service") => &network::SERVICE,
        ("", "ServiceAccount") => &cluster::SERVICE_ACCOUNT,
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => &extension::MUTATING_POLICY,
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => &extension::VALIDATING_POLICY,
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding" | "ValidatingAdmissionPolicyBinding") => {
            &extension::POLICY_BINDING
        }
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            &extension::WEBHOOKS
        }
        ("apiregistration.k8s.io", "APIService") => &extension::API_SERVICE,
        ("apps", "ControllerRevision") => &workloads::CONTROLLER_REVISION,
        ("apps", "DaemonSet") => &workloads::DAEMON_SET,
        ("apps", "Deployment") => &workloads::DEPLOYMENT,
        ("apps", "StatefulSet") => &workloads::STATEFUL_SET,
        ("autoscaling", "HorizontalPodAutoscaler") => &workloads::AUTOSCALER,
        ("batch", "CronJob") => &workloads::CRON_JOB,
        ("batch", "Job") => &workloads::JOB,
        ("certificates.k8s.io", "CertificateSigningRequest") => &access::SIGNING_REQUEST,
        ("certificates.k8s.io", "ClusterTrustBundle") => &access::TRUST_BUNDLE,
        ("coordination.k8s.io", "Lease") => &cluster::LEASE,
        ("discovery.k8s.io", "EndpointSlice") => &network::ENDPOINT_SLICE,
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => &extension::FLOW_SCHEMA,
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => &extension::PRIORITY_LEVEL,
        ("metrics.k8s.io", "NodeMetrics") => &metrics::NODE_METRICS,
        ("metrics.k8s.io", "PodMetrics") => &metrics::POD_METRICS,
        ("networking.k8s.io", "Ingress") => &network::INGRESS,
        ("networking.k8s.io", "IngressClass") => &network::INGRESS_CLASS,
        ("networking.k8s.io", "IPAddress") => &network::IP_ADDRESS,
        ("networking.k8s.io", "NetworkPolicy") => &network::NETWORK_POLICY,
        ("networking.k8s.io", "ServiceCIDR") => &network::SERVICE_CIDR,
        ("node.k8s.io", "RuntimeClass") => &cluster::RUNTIME_CLASS,
        ("policy", "PodDisruptionBudget") => &workloads::DISRUPTION_BUDGET,
        ("rbac.authorization.k8s.io", "ClusterRoleBinding" | "RoleBinding") => &access::ROLE_BINDING,
        ("resource.k8s.io", "DeviceClass" | "ResourceClaimTemplate") => &storage::NAME_AND_AGE,
        ("resource.k8s.io", "ResourceClaim") => &storage::RESOURCE_CLAIM,
        ("resource.k8s.io", "ResourceSlice") => &storage::RESOURCE_SLICE,
        ("scheduling.k8s.io", "PriorityClass") => &cluster::PRIORITY_CLASS,
        ("storage.k8s.io", "CSIDriver") => &storage::CSI_DRIVER,
        ("storage.k8s.io", "CSINode") => &storage::CSI_NODE,
        ("storage.k8s.io", "CSIStorageCapacity") => &storage::CSI_STORAGE_CAPACITY,
        ("storage.k8s.io", "StorageClass") => &storage::STORAGE_CLASS,
        ("storage.k8s.io", "VolumeAttachment") => &storage::VOLUME_ATTACHMENT,
        ("storage.k8s.io", "VolumeAttributesClass") => &storage::VOLUME_ATTRIBUTES_CLASS,
        _ => &DEFAULT,
    }
}
