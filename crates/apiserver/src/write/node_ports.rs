//! A Service's node ports are written down with it, each under a key of its own: of two servers over one store that
//! hand out the same port at the same instant, the slower one's transaction fails (upstream keeps one bitmap of all
//! ports for this). Nothing reads these keys; what is free is known from the Services themselves.

use std::{collections::BTreeSet, iter};

use bytes::Bytes;
use knarr_store::{Compare, KeyValue, Op, Txn};
use serde_json::Value;
use tracing::warn;

use super::Call;
use crate::{
    builtin,
    cache::{PREFIX, object_key},
    json::items,
    server::Inner,
};

fn ports(service: &Value) -> BTreeSet<u64> {
    let spec = &service["spec"];
    let ports = items(&spec["ports"]).iter().map(|port| &port["nodePort"]);
    ports.chain(iter::once(&spec["healthCheckNodePort"])).filter_map(Value::as_u64).filter(|port| *port != 0).collect()
}

fn prefix() -> String {
    format!("{PREFIX}ranges/nodeports/")
}

fn place(port: u64) -> Bytes {
    Bytes::from(format!("{}{port}", prefix()))
}

/// Adds to a Service's transaction what becomes of its ports.
pub(super) fn add(call: &Call<'_>, old: Option<&Value>, new: Option<&Value>, txn: &mut Txn) {
    let (before, after) = (old.map(ports).unwrap_or_default(), new.map(ports).unwrap_or_default());
    for port in after.difference(&before) {
        let (key, value) = (place(*port), Bytes::from(object_key(call.namespace, call.name)));
        txn.compares.push(Compare::Absent(key.clone()));
        txn.ops.push(Op::Put { key, value, lease: None });
    }
    txn.ops.extend(before.difference(&after).map(|port| Op::Delete { key: place(*port) }));
}

impl Inner {
    /// Takes away what stood in a transaction's way though no Service has it: an earlier version of the server, which
    /// knows nothing of these keys, has deleted the Service. Asked for once the cache has caught up with `there`.
    pub(super) async fn release_stale_ports(&self, there: impl Iterator<Item = KeyValue>) {
        let prefix = prefix();
        for kv in there {
            let port =
                kv.key.strip_prefix(prefix.as_bytes()).and_then(|port| std::str::from_utf8(port).ok()?.parse().ok());
            let Some(port) = port else { continue };
            let services = self.caches.of(builtin::services());
            let holder = services.and_then(|services| services.get(&String::from_utf8_lossy(&kv.value)));
            if holder.is_some_and(|holder| ports(&holder.value()).contains(&port)) {
                continue;
            }
            let compares = vec![Compare::ModRevision(kv.key.clone(), kv.mod_revision)];
            // Where this fails the port is found in the way again.
            if let Err(error) = self.store.txn(Txn { compares, ops: vec![Op::Delete { key: kv.key }] }).await {
                warn!(port, %error, "a node port of a Service that is gone could not be released");
            }
        }
    }
}
