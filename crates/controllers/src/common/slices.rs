//! What the two writers of EndpointSlices have in common: one writes them for the pods behind a Service, the other for
//! Endpoints that somebody wrote by hand.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{
    api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_client::{ObjectKey, Outcome, call, errors, meta};
use kube::api::DeleteParams;

use super::{fnv, service::ResolvedPort};
use crate::Error;

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
pub const IPV4: &str = "IPv4";
pub const IPV6: &str = "IPv6";

#[derive(Debug)]
pub enum Action {
    Create(EndpointSlice),
    Update(EndpointSlice),
    Delete(Arc<EndpointSlice>),
}

/// Slices differ in address family and ports; within one such group only the number of endpoints parts them.
pub type Group = (&'static str, Vec<ResolvedPort>);

/// The Service that `manager` keeps the slice for, where it is one of its slices.
pub fn service_of(slice: &EndpointSlice, manager: &str) -> Option<ObjectKey> {
    let meta = &slice.metadata;
    let service = meta::label(meta, SERVICE_NAME)?;
    let is_theirs = meta::label(meta, MANAGED_BY_LABEL) == Some(manager);
    is_theirs.then(|| ObjectKey::new(meta::namespace(meta), service))
}

pub fn group_of(slice: &EndpointSlice) -> Option<Group> {
    let family = [IPV4, IPV6].into_iter().find(|family| *family == slice.address_type)?;
    let port = |port: &EndpointPort| {
        Some(ResolvedPort {
            name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            port: port.port?,
            app_protocol: port.app_protocol.clone(),
        })
    };
    let ports: Option<Vec<_>> = slice.ports.iter().flatten().map(port).collect();
    Some((family, ports?))
}

/// A slice of this group. What the API leaves out is left out here, so that the two can be compared.
pub fn slice(meta: ObjectMeta, (family, ports): &Group, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let port = |port: &ResolvedPort| EndpointPort {
        name: Some(port.name.clone()),
        protocol: Some(port.protocol.clone()),
        port: Some(port.port),
        app_protocol: port.app_protocol.clone(),
    };
    let ports: Vec<_> = ports.iter().map(port).collect();
    EndpointSlice {
        metadata: meta,
        address_type: (*family).to_owned(),
        endpoints: Some(endpoints).filter(|endpoints| !endpoints.is_empty()),
        ports: Some(ports).filter(|ports| !ports.is_empty()),
    }
}

/// Not random: where the cache lags behind an earlier creation, the same name comes out again and the second
/// creation fails, instead of leaving a duplicate.
pub fn unused_name(owner: &ObjectMeta, taken: &mut BTreeSet<String>) -> String {
    let (name, uid) = (meta::name(owner), meta::uid(owner));
    let candidates = (0u32..).map(|count| {
        let hash = fnv::fnv1a_32(format!("{uid}/{count}").as_bytes());
        format!("{}-{}", &name[..name.len().min(57)], &fnv::safe_encode(hash | 0x4000_0000)[..5])
    });
    let name = candidates.into_iter().find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(name.clone());
    name
}

pub async fn carry_out(client: &kube::Client, actions: Vec<Action>) -> Result<Outcome, Error> {
    for action in actions {
        match action {
            Action::Create(slice) => match call::create(client, &slice).await {
                Ok(_) => {}
                Err(error) if errors::is_namespace_terminating(&error) => return Ok(Outcome::Done),
                Err(source) => return Err(Error::Api { what: "creating an EndpointSlice", source }),
            },
            Action::Update(slice) => {
                call::replace(client, &slice).await.map_err(Error::api("updating an EndpointSlice"))?;
            }
            Action::Delete(slice) => {
                let deleted = call::delete(client, &*slice, DeleteParams::default()).await;
                deleted.map_err(Error::api("deleting an EndpointSlice"))?;
            }
        }
    }
    Ok(Outcome::Done)
}

/// Does to a list what is done to the API; answers how many were created, updated and deleted.
#[cfg(test)]
pub fn apply(actions: Vec<Action>, slices: &mut Vec<Arc<EndpointSlice>>) -> [usize; 3] {
    let mut counts = [0; 3];
    for action in actions {
        match action {
            Action::Create(slice) => {
                assert!(slices.iter().all(|other| other.metadata.name != slice.metadata.name), "names differ");
                slices.push(Arc::new(slice));
                counts[0] += 1;
            }
            Action::Update(slice) => {
                let position = slices.iter().position(|other| other.metadata.name == slice.metadata.name).unwrap();
                slices[position] = Arc::new(slice);
                counts[1] += 1;
            }
            Action::Delete(slice) => {
                slices.retain(|other| other.metadata.name != slice.metadata.name);
                counts[2] += 1;
            }
        }
    }
    counts
}
