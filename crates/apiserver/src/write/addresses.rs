//! The IPAddresses of a Service are written with it, in one transaction: at no instant has a Service an address that
//! others could still take, none is left behind when it goes, and there is no second write to wait for.
//! (<https://kubernetes.io/docs/reference/networking/virtual-ips/#ip-address-objects>)

use std::net::IpAddr;

use bytes::Bytes;
use knarr_api::{
    address_range::{ALLOCATOR, FAMILY_LABEL, MANAGED_BY_LABEL},
    registry::Resource,
    time,
};
use knarr_store::{Compare, Op, Txn};
use serde_json::{Value, json};

use super::{Call, WriteOptions, fields, node_ports};
use crate::{
    builtin,
    cache::{splice, store_key},
    json::items,
    server::Inner,
};

const MANAGER: &str = "knarr-apiserver";
const SERVICES: &str = "services";

/// True for what has addresses of its own.
pub(super) fn belong_to(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == SERVICES
}

/// The cluster addresses of a Service.
fn addresses(service: &Value) -> Vec<IpAddr> {
    items(&service["spec"]["clusterIPs"]).iter().filter_map(|ip| ip.as_str()?.parse().ok()).collect()
}

impl Inner {
    /// Adds to a Service's transaction what becomes of its addresses and ports; `None` is before it is there, or after
    /// it is gone.
    pub(super) fn add_holdings(&self, call: &Call<'_>, old: Option<&Value>, new: Option<&Value>, txn: &mut Txn) {
        if !belong_to(call.resource) {
            return;
        }
        let (before, after) = (old.map(addresses).unwrap_or_default(), new.map(addresses).unwrap_or_default());
        for ip in after.iter().filter(|ip| !before.contains(ip)) {
            let (name, key) = place(*ip);
            if self.names(&name, call) {
                continue;
            }
            let value = Bytes::from(splice::encode(&self.ip_address(call, &name, ip.is_ipv4())));
            txn.compares.push(Compare::Absent(key.clone()));
            txn.ops.push(Op::Put { key, value, lease: None });
        }
        for ip in before.iter().filter(|ip| !after.contains(ip)) {
            let (name, key) = place(*ip);
            if self.names(&name, call) {
                txn.ops.push(Op::Delete { key });
            }
        }
        node_ports::add(call, old, new, txn);
    }

    /// True where there is an IPAddress of this name, and it is the Service's.
    fn names(&self, name: &str, call: &Call<'_>) -> bool {
        let cache = self.caches.of(builtin::ip_addresses());
        cache.and_then(|cache| cache.get(name)).is_some_and(|stored| {
            let parent = &stored.value()["spec"]["parentRef"];
            let group = parent["group"].as_str().unwrap_or_default();
            group.is_empty()
                && parent["resource"] == SERVICES
                && parent["namespace"] == call.namespace
                && parent["name"] == call.name
        })
    }

    fn ip_address(&self, call: &Call<'_>, name: &str, is_v4: bool) -> Value {
        let resource = builtin::ip_addresses();
        let mut object = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": resource.kind,
            "metadata": {
                "name": name,
                "uid": self.env.uid().to_string(),
                "creationTimestamp": time::seconds(self.env.now()),
                "labels": {
                    FAMILY_LABEL: if is_v4 { "IPv4" } else { "IPv6" },
                    MANAGED_BY_LABEL: ALLOCATOR,
                },
            },
            "spec": { "parentRef": { "name": call.name, "namespace": call.namespace, "resource": SERVICES } },
        });
        let options = WriteOptions { manager: MANAGER.into(), ..WriteOptions::default() };
        let call = Call { resource, custom: None, namespace: "", name, subresource: "", options: &options, ..*call };
        fields::track(&mut object, None, &call, fields::Tracking::Update, self.env.now());
        object
    }
}

/// The name of an address's object, and where that lies.
fn place(ip: IpAddr) -> (String, Bytes) {
    let name = ip.to_string();
    let key = store_key(builtin::ip_addresses(), "", &name);
    (name, key)
}
