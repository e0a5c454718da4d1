//! The built-in Ingress: a reverse proxy on every node.
//! (<https://kubernetes.io/docs/concepts/services-networking/ingress/>)
//!
//! It watches Ingresses and their classes, and does nothing else until there is one for it; then it listens on the
//! node's ports, and follows the Services, EndpointSlices and certificates that the rules need. Requests go to pods
//! directly, not by way of a Service's address, so that it sees itself which ones are ready and can ask another one.
//! Each change of the cluster makes one new [`table::Table`], which requests find without a lock.

mod certificates;
mod listen;
mod pool;
mod proxy;
mod table;
#[cfg(test)]
mod tests;
mod tls;

use std::{net::IpAddr, sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressClass},
};
use knarr_client::{Informer, Informers, ObjectKey};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use certificates::Secrets;
use proxy::Proxy;
use table::{Objects, Table};
pub use tls::TlsError;

/// What the proxy is told.
pub struct Config {
    /// May read Ingresses, classes, Services, EndpointSlices, and the Secrets that its Ingresses name.
    pub informers: Informers,
    /// The node's address: other addresses of the machine are not the proxy's business.
    pub address: IpAddr,
    pub http_port: u16,
    pub https_port: u16,
    pub cancel: CancellationToken,
}

/// Changes that come together are worked in together.
const GATHER: Duration = Duration::from_millis(5);
const SWEEP: Duration = Duration::from_secs(15);
const SLICES_BY_SERVICE: &str = "ingress/service";

/// Serves until it is cancelled.
pub async fn run(config: Config) {
    let cancel = config.cancel.clone();
    tokio::select! {
        () = serve(config) => {}
        () = cancel.cancelled() => {}
    }
}

async fn serve(config: Config) {
    let Config { informers, address, http_port, https_port, cancel } = config;
    let (ingresses, classes) = (informers.of::<Ingress>(), informers.of::<IngressClass>());
    if !(ingresses.synced().await && classes.synced().await) {
        return;
    }
    let changed = Arc::new(Notify::new());
    wake(&ingresses, &changed, &cancel);
    wake(&classes, &changed, &cancel);
    while !table::is_needed(&ingresses.list(), &classes.list()) {
        changed.notified().await;
    }
    let (services, slices) = (informers.of::<Service>(), informers.of::<EndpointSlice>());
    slices.add_index(SLICES_BY_SERVICE, table::service_of);
    if !(services.synced().await && slices.synced().await) {
        return;
    }
    wake(&services, &changed, &cancel);
    wake(&slices, &changed, &cancel);
    let proxy = Arc::new(Proxy::new());
    let mut secrets = match Secrets::new(informers, changed.clone(), cancel.clone()) {
        Ok(secrets) => secrets,
        Err(error) => {
            return tracing::error!(error = &error as &dyn std::error::Error, "the ingress cannot serve TLS");
        }
    };
    let build = || -> Table {
        table::build(&Objects {
            ingresses: &ingresses.list(),
            classes: &classes.list(),
            service: &|key: &ObjectKey| services.get(&key.namespace, &key.name),
            slices: &|key: &ObjectKey| slices.by_index(SLICES_BY_SERVICE, &key.to_string()),
        })
    };
    let tls = secrets.server_config();
    let follow = async {
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            let table = build();
            secrets.follow(&table.tls);
            let endpoints = table.endpoints();
            proxy.table.store(Arc::new(table));
            proxy.pool.sweep(&endpoints);
            tokio::select! {
                () = changed.notified() => tokio::time::sleep(GATHER).await,
                _ = sweep.tick() => {}
            }
        }
    };
    tokio::join!(
        follow,
        listen::serve(proxy.clone(), (address, http_port).into(), None, cancel.clone()),
        listen::serve(proxy.clone(), (address, https_port).into(), Some(tls), cancel.clone()),
    );
}

fn wake<K: knarr_client::informer::Object>(informer: &Informer<K>, changed: &Arc<Notify>, cancel: &CancellationToken) {
    let changed = changed.clone();
    informer.on_change_until(cancel, move |_| changed.notify_one());
}
