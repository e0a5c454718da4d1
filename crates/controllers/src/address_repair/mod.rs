//! Holds Services and IPAddresses against each other: each cluster address has an IPAddress that names its Service, and
//! each IPAddress of the allocator a Service that has it. The API server writes both in one transaction, so there is
//! work only where somebody wrote past it, or where a store comes from a time before there were IPAddresses.
//! (<https://kubernetes.io/docs/reference/networking/virtual-ips/#ip-address-objects>)

mod plan;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use k8s_openapi::api::{
    core::v1::Service,
    networking::v1::{IPAddress, ServiceCIDR},
};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, meta, worker};
use kube::api::DeleteParams;

use crate::{Context, Error};
pub use plan::is_managed;
use plan::{AddressVerdict, ClusterIp, ServiceVerdict};

pub const NAME: &str = "ipallocator-repair-controller";
const WORKERS: usize = 5;
const BY_ADDRESS: &str = "cluster-ip";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Service(ObjectKey),
    /// The name of an IPAddress.
    Address(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(key) => write!(f, "Service {key}"),
            Self::Address(name) => write!(f, "IPAddress {name}"),
        }
    }
}

struct Controller {
    context: Context,
    services: Informer<Service>,
    addresses: Informer<IPAddress>,
    cidrs: Informer<ServiceCIDR>,
}

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let controller = Arc::new(Controller {
        services: context.informers.of(),
        addresses: context.informers.of(),
        cidrs: context.informers.of(),
        context,
    });
    let Controller { services, addresses, cidrs, .. } = &*controller;
    services.add_index(BY_ADDRESS, |service| plan::cluster_ips(service).map(str::to_owned).collect());
    if !(services.synced().await && addresses.synced().await && cidrs.synced().await) {
        return;
    }
    services.feed(&queue, |change| {
        // What a Service no longer has is looked at from the other side.
        let given_back = change.old.iter().flat_map(|old| plan::cluster_ips(old).map(str::to_owned));
        let given_back: Vec<_> = given_back.map(Key::Address).collect();
        [Key::Service(ObjectKey::of(&**change.latest()))].into_iter().chain(given_back)
    });
    let all = services.clone();
    addresses.feed(&queue, move |change| {
        let name = meta::name(&change.latest().metadata);
        let holders = all.by_index(BY_ADDRESS, name).into_iter().map(|service| Key::Service(ObjectKey::of(&*service)));
        holders.chain([Key::Address(name.to_owned())]).collect::<Vec<_>>()
    });
    let all = services.clone();
    cidrs.feed(&queue, move |change| {
        let is_news = change.is_addition() || change.is_deletion();
        let services = is_news.then(|| all.list()).into_iter().flatten();
        services.map(|service| Key::Service(ObjectKey::of(&*service))).collect::<Vec<_>>()
    });
    worker::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move {
            match key {
                Key::Service(key) => controller.check_service(key).await,
                Key::Address(name) => controller.check_address(name).await,
            }
        }
    })
    .await;
}

impl Controller {
    async fn check_service(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(service) = self.services.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        let cidrs = self.cidrs.list();
        for written in plan::cluster_ips(&service) {
            let ip = match ClusterIp::read(written, &cidrs) {
                Ok(ip) => ip,
                Err(complaint) => {
                    self.context.recorder.warning(&*service, complaint.reason, complaint.message);
                    continue;
                }
            };
            if plan::is_well(&ip, self.addresses.get("", &ip.name).as_deref(), &service) {
                continue;
            }
            self.repair(&ip, &service).await?;
        }
        Ok(Outcome::Done)
    }

    /// The caches are two, and one may be ahead of the other: what looks wrong is looked up before it is mended.
    async fn repair(&self, ip: &ClusterIp, service: &Service) -> Result<(), Error> {
        let client = &self.context.client;
        let read = Error::api("reading what belongs to a cluster address");
        let (namespace, name) = (meta::namespace(&service.metadata), meta::name(&service.metadata));
        let there: Option<IPAddress> = call::get(client, "", &ip.name).await.map_err(&read)?;
        let now: Option<Service> = call::get(client, namespace, name).await.map_err(&read)?;
        let Some(service) = now.filter(|now| plan::cluster_ips(now).any(|one| one == ip.name)) else { return Ok(()) };
        let named = match there.as_ref().and_then(plan::parent_service) {
            Some(key) => call::get::<Service>(client, &key.namespace, &key.name).await.map_err(&read)?,
            None => None,
        };
        let verdict = plan::judge_service(ip, there.as_ref(), named.as_ref(), &service);
        let ServiceVerdict { complaint, recreate } = verdict;
        if let Some(complaint) = complaint {
            self.context.recorder.warning(&service, complaint.reason, complaint.message);
        }
        if !recreate {
            return Ok(());
        }
        if let Some(there) = &there {
            let deleted = call::delete(client, there, DeleteParams::default()).await;
            deleted.map_err(Error::api("deleting a wrong IPAddress"))?;
        }
        let created = call::create(client, &plan::ip_address(ip, &service)).await;
        created.map(drop).map_err(Error::api("making a Service's IPAddress"))
    }

    async fn check_address(&self, name: String) -> Result<Outcome, Error> {
        let Some(address) = self.addresses.get("", &name).filter(|address| is_managed(address)) else {
            return Ok(Outcome::Done);
        };
        let parent = plan::parent_service(&address);
        let shown = parent.as_ref().and_then(|key| self.services.get(&key.namespace, &key.name));
        let now = self.context.clock.now();
        if plan::judge_address(&address, shown.as_deref(), now) == AddressVerdict::Fine {
            return Ok(Outcome::Done);
        }
        let client = &self.context.client;
        let read = Error::api("reading what belongs to an IPAddress");
        let there: Option<IPAddress> = call::get(client, "", &name).await.map_err(&read)?;
        let Some(there) = there.filter(is_managed) else { return Ok(Outcome::Done) };
        let service = match plan::parent_service(&there) {
            Some(key) => call::get::<Service>(client, &key.namespace, &key.name).await.map_err(&read)?,
            None => None,
        };
        match plan::judge_address(&there, service.as_ref(), now) {
            AddressVerdict::Fine => Ok(Outcome::Done),
            AddressVerdict::After(time) => Ok(Outcome::After(time)),
            AddressVerdict::Delete(complaint) => {
                self.context.recorder.warning(&there, complaint.reason, complaint.message);
                let deleted = errors::optional(call::delete(client, &there, DeleteParams::default()).await);
                deleted.map(|_| Outcome::Done).map_err(Error::api("deleting an IPAddress that nobody uses"))
            }
        }
    }
}
