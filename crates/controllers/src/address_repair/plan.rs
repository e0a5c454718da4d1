//! What is wrong between a Service and the IPAddresses of its cluster addresses, in upstream's words. Pure.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::Service,
        networking::v1::{IPAddress, IPAddressSpec, ParentReference, ServiceCIDR},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_api::address_range::{ALLOCATOR, FAMILY_LABEL as FAMILY, MANAGED_BY_LABEL as MANAGED_BY};
use knarr_client::{ObjectKey, meta};

use crate::service_cidr;

const SERVICES: &str = "services";
/// So long an IPAddress may be there before its Service: no request takes longer.
const LEAK_AGE: Duration = Duration::from_secs(60);

/// What an event says.
#[derive(Debug, PartialEq, Eq)]
pub struct Complaint {
    pub reason: &'static str,
    pub message: String,
}

fn complaint(reason: &'static str, message: String) -> Complaint {
    Complaint { reason, message }
}

/// A cluster address that lies in some ServiceCIDR.
#[derive(Debug, PartialEq, Eq)]
pub struct ClusterIp {
    /// In canonical form, as its IPAddress is called.
    pub name: String,
    family: &'static str,
}

impl ClusterIp {
    pub fn read(text: &str, cidrs: &[Arc<ServiceCIDR>]) -> Result<Self, Complaint> {
        let Ok(ip) = text.parse::<IpAddr>() else {
            let message = format!("Cluster IP {text} is not a valid IP; please recreate Service");
            return Err(complaint("ClusterIPNotValid", message));
        };
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        // The default one is about to be made where there is none at all.
        if cidrs.is_empty() || cidrs.iter().any(|cidr| service_cidr::contains(cidr, ip)) {
            return Ok(Self { name: ip.to_string(), family });
        }
        let message =
            format!("Cluster IP [{family}]: {ip} is not within any configured Service CIDR; please recreate service");
        Err(complaint("ClusterIPOutOfRange", message))
    }
}

/// The addresses of a Service that has any.
pub fn cluster_ips(service: &Service) -> impl Iterator<Item = &str> {
    let spec = service.spec.iter().filter(|spec| spec.type_.as_deref() != Some("ExternalName"));
    let all = spec.flat_map(|spec| spec.cluster_ips.iter().flatten());
    all.map(String::as_str).filter(|ip| !matches!(*ip, "" | "None"))
}

/// True for what the allocator of cluster addresses has made.
pub fn is_managed(address: &IPAddress) -> bool {
    meta::label(&address.metadata, MANAGED_BY) == Some(ALLOCATOR)
}

/// The Service that an IPAddress names, if it names one.
pub fn parent_service(address: &IPAddress) -> Option<ObjectKey> {
    let parent = &address.spec.parent_ref;
    let is_service = parent.group.as_deref().unwrap_or_default().is_empty() && parent.resource == SERVICES;
    is_service.then(|| ObjectKey::new(parent.namespace.as_deref().unwrap_or_default(), &parent.name))
}

pub fn is_well(ip: &ClusterIp, there: Option<&IPAddress>, service: &Service) -> bool {
    there.is_some_and(|there| parent_service(there) == Some(ObjectKey::of(service)) && has_labels(ip, there))
}

fn has_labels(ip: &ClusterIp, there: &IPAddress) -> bool {
    meta::label(&there.metadata, FAMILY) == Some(ip.family) && is_managed(there)
}

#[derive(Debug, PartialEq, Eq)]
pub struct ServiceVerdict {
    pub complaint: Option<Complaint>,
    /// The IPAddress is made, in the place of the one there is.
    pub recreate: bool,
}

/// `named` is the Service that the IPAddress is of, where there is one.
pub fn judge_service(
    ip: &ClusterIp,
    there: Option<&IPAddress>,
    named: Option<&Service>,
    service: &Service,
) -> ServiceVerdict {
    let ClusterIp { name, family } = ip;
    let key = ObjectKey::of(service);
    let repaired =
        |message| ServiceVerdict { complaint: Some(complaint("ClusterIPNotAllocated", message)), recreate: true };
    let Some(there) = there else {
        return repaired(format!("Cluster IP [{family}]: {name} is not allocated; repairing"));
    };
    let wrong = || format!("the ClusterIP [{family}]: {name} for Service {key} has a wrong reference; repairing");
    let shared = match (parent_service(there), named) {
        (None, _) => return repaired(wrong()),
        (Some(parent), _) if parent == key => None,
        (Some(_), None) => return repaired(wrong()),
        (Some(_), Some(named)) => cluster_ips(named).any(|other| other == name).then(|| {
            let message =
                format!("Cluster IP [{family}]:{name} was assigned to multiple services; please recreate service");
            complaint("ClusterIPAlreadyAllocated", message)
        }),
    };
    // Of two that have it the one that the IPAddress names keeps it.
    let recreate = shared.is_none() && !has_labels(ip, there);
    ServiceVerdict { complaint: shared, recreate }
}

pub fn ip_address(ip: &ClusterIp, service: &Service) -> IPAddress {
    let labels = [(FAMILY, ip.family), (MANAGED_BY, ALLOCATOR)];
    let labels: BTreeMap<_, _> = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let parent_ref = ParentReference {
        group: None,
        resource: SERVICES.to_owned(),
        namespace: service.metadata.namespace.clone(),
        name: meta::name(&service.metadata).to_owned(),
    };
    IPAddress {
        metadata: ObjectMeta { name: Some(ip.name.clone()), labels: Some(labels), ..ObjectMeta::default() },
        spec: IPAddressSpec { parent_ref },
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum AddressVerdict {
    Fine,
    /// Its Service may be on its way still.
    After(Duration),
    Delete(Complaint),
}

/// Of an IPAddress that is the allocator's; `service` is the one that it names.
pub fn judge_address(address: &IPAddress, service: Option<&Service>, now: Timestamp) -> AddressVerdict {
    let name = meta::name(&address.metadata);
    let Some(key) = parent_service(address) else {
        let ParentReference { group, name: parent, namespace, resource } = &address.spec.parent_ref;
        let (group, namespace) = (group.as_deref().unwrap_or_default(), namespace.as_deref().unwrap_or_default());
        let message = format!(
            "IPAddress {name} appears to have been modified, not referencing a Service &ParentReference{{Group:{group},\
             Resource:{resource},Namespace:{namespace},Name:{parent},}}: cleaning up"
        );
        return AddressVerdict::Delete(complaint("IPAddressNotAllocated", message));
    };
    let Some(service) = service else {
        let made = address.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |made| made.0);
        let age = Duration::try_from(now.duration_since(made)).unwrap_or_default();
        if age <= LEAK_AGE {
            return AddressVerdict::After(LEAK_AGE - age + Duration::from_secs(1));
        }
        let message = format!("IPAddress: {name} for Service {key} appears to have leaked: cleaning up");
        return AddressVerdict::Delete(complaint("IPAddressNotAllocated", message));
    };
    if cluster_ips(service).any(|ip| ip == name) {
        return AddressVerdict::Fine;
    }
    let message = format!("IPAddress: {name} for Service {key} has a wrong reference; cleaning up");
    AddressVerdict::Delete(complaint("IPAddressWrongReference", message))
}
